"""Share files while containers use them: limits change in place, usage is read.

Containers hold the inode of a limits file, so it is never replaced: a change makes the page's sequence odd, writes all of
it, and makes the sequence even again (`api/abi`).  A reader that meets an odd sequence keeps what it knew, so a writer that
is killed half-way changes nothing, and the next `change` repairs the page.  There is one writer at a time: whoever holds
`alone`.  Usage files are the tenant's: they are read with pread, never mapped, and may be cut short or full of nonsense.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hami_dra._gen import abi
from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.core.limits import Limits, decode, encode
from hami_dra.core.usage import Usage
from hami_dra.core.usage import decode as decode_usage
from hami_dra.host.files import node_state_error

__all__ = ["LiveShares"]

_LIMITS_MODE = 0o644
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CHANGE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class LiveShares:
    """The share files below one directory, as `ShareDirectory` makes them."""

    def __init__(self, path: Path, *, lock: Path) -> None:
        """`path` is the directory of all claims; `lock` a file beside it that says who may change limits."""
        self._path = path
        self._lock = lock

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process changes limits on this node; until the end of the block, or of this process, none does.

        Raises:
            NodeStateError: the lock file cannot be opened.
        """
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise node_state_error("open the lock of the share files", self._lock, error) from error
        try:
            yield _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def stamp(self) -> int:
        """Changes whenever a claim's files come or go; 0 where there is nothing to look at."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0

    def usage(self, uid: ClaimUid, key: ShareKey) -> Usage | None:
        """What the share's processes say; None where they said nothing, or the share is gone."""
        try:
            descriptor = os.open(self._path / uid / key / "usage", _READ)
        except OSError:
            return None
        try:
            return decode_usage(os.pread(descriptor, abi.USAGE_SIZE, 0))
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def change(self, uid: ClaimUid, limits: Limits) -> bool:
        """Make the share's page say `limits`, under the next generation; says whether the share is still there.

        A page that says so already is not touched; `limits.generation` counts for nothing.

        Raises:
            NodeStateError: it cannot be written.
        """
        path = self._path / uid / limits.share / "limits"
        try:
            descriptor = _open(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise node_state_error("change limits", path, error) from error
        try:
            _change(descriptor, limits)
        except OSError as error:
            raise node_state_error("change limits", path, error) from error
        finally:
            os.close(descriptor)
        return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(path: Path) -> int:
    """Without CAP_DAC_OVERRIDE even root needs the owner's write bit, which files of earlier releases lack."""
    try:
        return os.open(path, _CHANGE)
    except PermissionError:
        path.chmod(_LIMITS_MODE)
        return os.open(path, _CHANGE)


def _change(descriptor: int, limits: Limits) -> None:
    held = os.pread(descriptor, abi.LIMITS_SIZE, 0)
    sequence = _u32(held, abi.LIMITS_SEQUENCE_OFFSET)
    generation = _u64(held, abi.LIMITS_GENERATION_OFFSET)
    if sequence % 2 == 0 and _says(held, replace(limits, generation=generation)):
        return
    odd = sequence | 1
    page = bytearray(encode(replace(limits, generation=(generation + 1) % 2**64)))
    struct.pack_into("<I", page, abi.LIMITS_SEQUENCE_OFFSET, odd)
    # Each write is a system call that takes the inode's lock, so nobody sees a later one without the earlier ones.
    os.pwrite(descriptor, struct.pack("<I", odd), abi.LIMITS_SEQUENCE_OFFSET)
    os.pwrite(descriptor, page, 0)
    os.pwrite(descriptor, struct.pack("<I", (odd + 1) % 2**32), abi.LIMITS_SEQUENCE_OFFSET)


def _says(page: bytes, limits: Limits) -> bool:
    try:
        return decode(page) == limits
    except ValueError:
        return False


def _u32(page: bytes, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 4], "little")


def _u64(page: bytes, offset: int) -> int:
    return int.from_bytes(page[offset : offset + 8], "little")
