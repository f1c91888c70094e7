"""Where node plugin and keeper of the MPS daemons meet: `mps/<device>/{wanted,answer,pipe/,log/}` in the node's state directory.

The node plugin writes `wanted`, the keeper everything else.  Locks say what no file can: that a keeper lives (it holds two bytes
of `keeper`, the second one from when old answers are gone), and that a daemon takes clients (it holds a byte of
`pipe/alive`, which containers see).  The kernel drops them with the keeper, however it dies.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import DeviceName
from hami_dra.core.mps import Answer, Wanted, answer_from_json, to_json, wanted_from_json
from hami_dra.host.files import make_directory, node_state_error, remove_file, remove_tree, write_atomic

__all__ = ["MpsDirectory"]

_FLOCK = "hhqqi4x"
"""struct flock on 64-bit Linux: type, whence, start, length, pid."""
_DIRECTORY_MODE = 0o711
_PIPE_MODE = 0o755
"""Clients go through; only root makes what they find there."""
_FILE_MODE = 0o644
_ONE_KEEPER, _SERVING = 0, 1


class MpsDirectory:
    """The directory of all daemons; each side uses its half."""

    def __init__(self, path: Path) -> None:
        """`path` as this process sees it; it need not exist yet."""
        self._path = path
        self._alive: dict[DeviceName, int] = {}

    # ---- the node plugin's half

    def want(self, device: DeviceName, wanted: Wanted) -> None:
        """Ask for a daemon, or for another setting of one that runs.

        Raises:
            NodeStateError: it could not be written.
        """
        if self.wanted().get(device) == wanted:
            return
        make_directory(self._path, mode=_DIRECTORY_MODE)
        make_directory(self._path / device, mode=_DIRECTORY_MODE)
        # The runtime mounts it, and takes no directory that is not there.
        make_directory(self._path / device / "pipe", mode=_PIPE_MODE)
        write_atomic(self._path / device / "wanted", to_json(wanted).encode(), mode=_FILE_MODE)

    def forget(self, device: DeviceName) -> None:
        """Have the daemon ended; none is no error.

        Raises:
            NodeStateError: it is still asked for.
        """
        remove_file(self._path / device / "wanted")

    def answer(self, device: DeviceName) -> Answer | None:
        """What the keeper says of a daemon; None where no keeper lives, or it has not come to it."""
        return answer_from_json(self._read(device, "answer")) if self.kept() else None

    def kept(self) -> bool:
        """Whether a keeper lives on this node."""
        try:
            descriptor = os.open(self._path / "keeper", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, _SERVING, 1, 0)
            (kind, *_rest) = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
            return bool(kind != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)

    # ---- both

    def wanted(self) -> Mapping[DeviceName, Wanted]:
        """The daemons that are asked for."""
        found = {name: wanted_from_json(self._read(name, "wanted")) for name in self._names()}
        return {name: wanted for name, wanted in found.items() if wanted is not None}

    # ---- the keeper's half

    @contextlib.contextmanager
    def keep(self) -> Iterator[None]:
        """Be the keeper of this node.

        Raises:
            NodeStateError: somebody else is, or the directory cannot be used.
        """
        make_directory(self._path, mode=_DIRECTORY_MODE)
        descriptor = self._open(self._path / "keeper")
        try:
            if not _lock(descriptor, _ONE_KEEPER):
                raise NodeStateError(f"{self._path}: another process keeps the MPS daemons of this node")
            for name in self._names():
                remove_file(self._path / name / "answer")
            _lock(descriptor, _SERVING)
            yield
        finally:
            for name in list(self._alive):
                self.close(name)
            os.close(descriptor)

    def folders(self, device: DeviceName) -> tuple[Path, Path]:
        """The pipe and the log directory of a daemon, made if they lack.

        Raises:
            NodeStateError: they cannot be made.
        """
        make_directory(self._path / device, mode=_DIRECTORY_MODE)
        pipe, log = self._path / device / "pipe", self._path / device / "log"
        make_directory(pipe, mode=_PIPE_MODE)
        make_directory(log, mode=0o700)
        return pipe, log

    def say(self, device: DeviceName, answer: Answer) -> None:
        """Say how a daemon is, to the node plugin and to clients.

        Raises:
            NodeStateError: it could not be written.
        """
        if answer.serves is None:
            self.close(device)
        elif device not in self._alive:
            self._alive[device] = descriptor = self._open(self._path / device / "pipe" / "alive")
            _lock(descriptor, 0)
        write_atomic(self._path / device / "answer", to_json(answer).encode(), mode=_FILE_MODE)

    def close(self, device: DeviceName) -> None:
        """Let no client begin."""
        if (descriptor := self._alive.pop(device, None)) is not None:
            os.close(descriptor)

    def remove(self, device: DeviceName) -> None:
        """Remove what is left of a daemon that has ended and is not asked for.

        Raises:
            NodeStateError: something is still there.
        """
        self.close(device)
        if device not in self.wanted():
            remove_tree(self._path / device)

    def left(self) -> set[DeviceName]:
        """All that have a directory."""
        return set(self._names())

    def _names(self) -> list[DeviceName]:
        try:
            return sorted(DeviceName(entry.name) for entry in os.scandir(self._path) if entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise node_state_error("read the directory of MPS daemons", self._path, error) from error

    def _read(self, device: DeviceName, name: str) -> str:
        try:
            return (self._path / device / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
        except OSError as error:
            raise node_state_error("open a lock file", path, error) from error


def _lock(descriptor: int, offset: int) -> bool:
    """Of the open file description: gone when the descriptor is."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
