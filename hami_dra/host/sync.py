"""One flush of a file for all who wait for it.

A flush covers what was written before it began, so whoever comes while one is under way waits for the next, and that one serves
everybody who came meanwhile: forty writers wait for two flushes, not for forty.  Invariant: `wait` returns only after a flush
that began after it was called.
"""

import os
import threading
from pathlib import Path

from hami_dra.host.files import node_state_error

__all__ = ["FileSync"]


class FileSync:
    """Flushes one file.  Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        """Open the file, which exists, and make its name durable.

        Raises:
            NodeStateError: it cannot be opened or flushed.
        """
        self._path = path
        self._door = threading.Lock()
        self._begun = 0
        """How many flushes have begun."""
        self._failed: tuple[int, OSError] | None = None
        """The last flush that failed, by its number: a later one that works says nothing about what it should have covered."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise node_state_error("open a file to flush it", path, error) from error

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def wait(self) -> None:
        """Come back when everything that was written before the call is on disk.

        Raises:
            NodeStateError: the disk refused, and what it holds is not known.
        """
        mine = self._begun + 1
        with self._door:
            if self._begun < mine:
                self._flush()
            failed = self._failed
        if failed is not None and failed[0] >= mine:
            raise node_state_error("flush a file", self._path, failed[1]) from failed[1]

    def _flush(self) -> None:
        self._begun += 1
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._failed = (self._begun, error)
