"""The node configuration that was in force last, for the time until the API server has told a new process what holds now.

It counts when the ConfigMap is wrong, or cannot be read, while a node plugin starts.  A file that cannot be understood is as good
as none: it was written by another release, or is damaged, and what it would say is not worth a node that does not start.
"""

import json
from pathlib import Path

from hami_dra.core.node_config import Remembered
from hami_dra.host.files import remove_file, write_atomic

__all__ = ["LastConfig"]

_MODE = 0o600


class LastConfig:
    """One file in the state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Remembered | None:
        """What was saved last, or None."""
        try:
            saved = json.loads(self._path.read_text(encoding="utf-8"))
            return Remembered(
                text=str(saved["text"]), labels={str(key): str(saved["labels"][key]) for key in saved["labels"]}
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, remembered: Remembered) -> None:
        """Keep it, on disk.

        Raises:
            NodeStateError: it could not be written; what was there before still is.
        """
        text = json.dumps({"text": remembered.text, "labels": dict(remembered.labels)})
        write_atomic(self._path, text.encode(), mode=_MODE, durable=True)

    def forget(self) -> None:
        """Keep nothing.

        Raises:
            NodeStateError: it is still there.
        """
        remove_file(self._path)
