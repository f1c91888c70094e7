"""Remembers over restarts of this process which cards need a reset.

A file beside the ledger, replaced as a whole.  What it means is for `core.health_record` to say.
"""

from pathlib import Path

from hami_dra.host.files import node_state_error, write_atomic

__all__ = ["HealthFile"]

_MODE = 0o600


class HealthFile:
    """One small file."""

    def __init__(self, path: Path) -> None:
        """`path` in a directory that exists."""
        self._path = path

    def read(self) -> str:
        """Its content; empty where there is none.

        Raises:
            NodeStateError: it is there and cannot be read.
        """
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise node_state_error("read what is known of the cards", self._path, error) from error

    def write(self, text: str) -> None:
        """Replace its content.

        Raises:
            NodeStateError: it could not be written; the old content stays.
        """
        write_atomic(self._path, text.encode(), mode=_MODE, durable=True)
