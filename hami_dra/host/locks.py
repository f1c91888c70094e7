"""One worker at a time for one claim, and for one card that is cut, across threads and across processes.

Kubelet retries a call while the first one still runs, and during a rolling update two node plugins serve one node.  The lock
is an open-file-description lock on one byte of one file, at an offset derived from the name: no file for each claim,
nothing to clean up, and the kernel gives it back when its holder dies.  Two claims that share a byte (one chance in 2^62)
merely wait for each other.
"""

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hami_dra._lib.threads import Group
from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import ClaimUid, DeviceName
from hami_dra.host.files import node_state_error

__all__ = ["ClaimLocks"]

_FLOCK = "hhqqi4x"
"""struct flock on 64-bit Linux: type, whence, start, length, pid."""
_BUSY = (errno.EAGAIN, errno.EACCES)
_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.02


class ClaimLocks:
    """Locks of claims, held by whoever is inside `hold`."""

    def __init__(self, path: Path, *, group: Group, timeout_s: float = 40.0) -> None:
        """Locks in the file at `path`, in a directory that exists.

        Args:
            path: the same for all processes that work on the same state.
            group: whose stop ends every wait.
            timeout_s: longest wait; kubelet gives a call 45 s.
        """
        self._path = path
        self._group = group
        self._timeout_s = timeout_s

    @contextmanager
    def hold(self, name: ClaimUid | DeviceName) -> Iterator[None]:
        """Keep everybody else out of this claim or card.

        Raises:
            NodeStateError: somebody else holds it for too long, or the file cannot be opened.
        """
        descriptor = self._open()
        try:
            if not self._acquire(descriptor, name):
                raise NodeStateError(
                    f"{name} is being worked on by another call for more than {self._timeout_s:.0f} s; it is tried again"
                )
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def try_hold(self, uid: ClaimUid) -> Iterator[bool]:
        """Keep everybody else out of this claim if nobody is in it: gives whether that worked.

        Raises:
            NodeStateError: the file cannot be opened.
        """
        descriptor = self._open()
        try:
            yield self._try(descriptor, uid)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise node_state_error("open the lock file", self._path, error) from error

    def _acquire(self, descriptor: int, name: str) -> bool:
        waited_s, wait_s = 0.0, _FIRST_WAIT_S
        while not self._try(descriptor, name):
            if waited_s >= self._timeout_s or self._group.wait(wait_s):
                return False
            waited_s += wait_s
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        return True

    def _try(self, descriptor: int, name: str) -> bool:
        try:
            fcntl.fcntl(
                descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _offset(name), 1, 0)
            )
        except OSError as error:
            if error.errno in _BUSY:
                return False
            raise node_state_error("lock a claim", self._path, error) from error
        return True


def _offset(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 2
