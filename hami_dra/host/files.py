"""Files that are there whole or not at all.

`write_atomic` gives a file its content by renaming a complete one over it, in the same directory, so that a reader (the
container runtime, the guard, this program after a kill -9) never sees half of it.  Invariant: a temporary file's name ends
neither in .json nor in .yaml, because runtimes read whatever does.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.core.errors import NodeStateError

__all__ = [
    "Remains",
    "create_zeroed",
    "make_directory",
    "node_state_error",
    "remove_file",
    "remove_tree",
    "write_atomic",
]

_TEMPORARY = ".hami-tmp"
_ABANDONED_S = 60.0
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the quota is used up: free some space",
    errno.EROFS: "the file system is read-only: mount it writable",
    errno.EACCES: "not permitted: check owner, mode and security labels",
    errno.EPERM: "not permitted: check owner, mode and security labels",
    errno.ENOENT: "the directory is not there: was the host's directory unmounted or wiped?",
}


def node_state_error(what: str, path: Path | str, error: Exception) -> NodeStateError:
    """`error` in the house's words: what was tried, on which path, what the system said and what to do."""
    advice = _ADVICE.get(error.errno or 0) if isinstance(error, OSError) else None
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return NodeStateError(f"cannot {what}: {path}: {said}" + (f"; {advice}" if advice else ""))


def write_atomic(path: Path, data: bytes, *, mode: int, durable: bool = False) -> None:
    """Give `path` this content and mode, in one step for whoever looks.  One writer at a time for a path.

    Args:
        path: in a directory that exists.
        data: all of it.
        mode: of the new file, whatever the umask is.
        durable: come back only when the content and its name survive a loss of power.

    Raises:
        NodeStateError: it could not be written; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        _write(temporary, data, mode=mode, durable=durable)
        temporary.replace(path)
        if durable:
            _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise node_state_error("write a file", path, error) from error


def create_zeroed(path: Path, *, size: int, mode: int) -> None:
    """Make a file of that many zero bytes; one that exists is not touched.

    Its blocks are allocated: whoever maps it must not die of a disk that fills up later.

    Raises:
        NodeStateError: it could not be made; nothing is left behind.
    """
    temporary = _temporary(path)
    try:
        if path.exists():
            return
        descriptor = os.open(temporary, _CREATE, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        temporary.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise node_state_error("make a file", path, error) from error


class Remains:
    """What killed `write_atomic`s left: temporary files on which nobody has worked for a minute.

    The minute is this process's own: a file's times are the wall clock's, which may jump and make work in progress look old.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        """Inode and time of the last change, and when this process first saw them so."""

    def among(self, paths: Iterable[Path]) -> list[Path]:
        """Those that have not changed for a minute, as far as was looked."""
        now_s, before = self._clock.monotonic(), self._seen
        self._seen = {}
        for path in paths:
            with contextlib.suppress(OSError):
                if path.name.endswith(_TEMPORARY):
                    status = path.lstat()
                    state = (status.st_ino, status.st_ctime_ns)
                    known = before.get(path)
                    self._seen[path] = known if known is not None and known[0] == state else (state, now_s)
        return sorted(path for path, (_, since_s) in self._seen.items() if now_s - since_s >= _ABANDONED_S)


def make_directory(path: Path, *, mode: int) -> None:
    """Make the directory and its parents, or give an existing one that mode.

    Raises:
        NodeStateError: it could not be made.
    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        if path.stat().st_mode & 0o7777 != mode:
            path.chmod(mode)
    except OSError as error:
        raise node_state_error("make a directory", path, error) from error


def remove_file(path: Path) -> None:
    """Remove the file and what a killed writer left of it; one that is not there is no error.

    Raises:
        NodeStateError: it is still there.
    """
    try:
        path.unlink(missing_ok=True)
        _temporary(path).unlink(missing_ok=True)
    except OSError as error:
        raise node_state_error("remove a file", path, error) from error


def remove_tree(path: Path) -> None:
    """Remove the directory and all below it; one that is not there is no error, and a file in its place goes too.

    Raises:
        NodeStateError: something of it is still there.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        remove_file(path)
    except OSError as error:
        raise node_state_error("remove a directory", path, error) from error


def _temporary(path: Path) -> Path:
    """One name for each path: writers of a path take turns, and the next one writes over what a killed one left."""
    return path.with_name(f".{path.name}{_TEMPORARY}")


def _write(path: Path, data: bytes, *, mode: int, durable: bool) -> None:
    descriptor = os.open(path, _CREATE, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fchmod(descriptor, mode)
        if durable:
            os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
