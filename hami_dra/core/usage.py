"""What a usage file says: the accounting that the processes of one share keep.

The file belongs to the tenant, so any bytes must do: `decode` never raises, every number it gives lies between 0 and `MOST`
(`bucket_ns` between `-MOST` and `MOST`), and a file that is not of this layout says nothing at all.  Nobody enforces anything by
these numbers alone.
"""

import struct
from dataclasses import dataclass
from typing import Final

from hami_dra._gen import abi

__all__ = ["MOST", "Process", "Usage", "decode"]

MOST: Final = 2**63 - 1
"""Larger numbers are cut to this: nothing real is as large."""

_MAGIC = abi.USAGE_MAGIC.encode()
_STATES = struct.Struct("<" + f"I{abi.USAGE_SLOT_SIZE - 4}x" * abi.USAGE_SLOTS)
_IN_USE = 1
_LAYOUTS = range(1, abi.USAGE_ABI_VERSION + 1)
"""1 has no credits; all else lies where it lay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of the share, as it says itself."""

    pid: int
    """In the pid namespace of its container."""
    used_bytes: int
    launches_total: int
    gpu_time_ns: int
    throttled_ns: int
    wanted_at_ns: int
    """CLOCK_MONOTONIC when it last launched or waited to launch."""
    managed_bytes: int
    overhead_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes of one share hold and did."""

    used_bytes: int
    peak_bytes: int
    refused_total: int
    bucket_ns: int
    """GPU time that may still be used; negative: owed."""
    gpu_time_ns: int
    throttled_ns: int
    managed_bytes: int
    processes: tuple[Process, ...]
    """Of the slots in use; their owners may be dead."""

    @property
    def wanted_at_ns(self) -> int:
        """When any of the processes last wanted to compute."""
        return max((process.wanted_at_ns for process in self.processes), default=0)


def decode(page: bytes) -> Usage | None:
    """The content of a usage file; None for one that no process has initialised, or that is none."""
    if len(page) < abi.USAGE_SIZE or page[: len(_MAGIC)] != _MAGIC:
        return None
    if _u32(page, abi.USAGE_ABI_VERSION_OFFSET) not in _LAYOUTS:
        return None
    states: tuple[int, ...] = _STATES.unpack_from(page, abi.USAGE_HEADER_SIZE)
    return Usage(
        used_bytes=_u64(page, abi.USAGE_USED_BYTES_OFFSET),
        peak_bytes=_u64(page, abi.USAGE_PEAK_BYTES_OFFSET),
        refused_total=_u64(page, abi.USAGE_REFUSED_TOTAL_OFFSET),
        bucket_ns=max(-MOST, struct.unpack_from("<q", page, abi.USAGE_BUCKET_NS_OFFSET)[0]),
        gpu_time_ns=_u64(page, abi.USAGE_GPU_TIME_NS_OFFSET),
        throttled_ns=_u64(page, abi.USAGE_THROTTLED_NS_OFFSET),
        managed_bytes=_u64(page, abi.USAGE_MANAGED_BYTES_OFFSET),
        processes=tuple(_process(page, index) for index, state in enumerate(states) if state == _IN_USE),
    )


def _process(page: bytes, index: int) -> Process:
    slot = abi.USAGE_HEADER_SIZE + index * abi.USAGE_SLOT_SIZE
    return Process(
        pid=_u32(page, slot + abi.USAGE_SLOT_PID_OFFSET) & 0x7FFFFFFF,
        used_bytes=_u64(page, slot + abi.USAGE_SLOT_USED_BYTES_OFFSET),
        launches_total=_u64(page, slot + abi.USAGE_SLOT_LAUNCHES_TOTAL_OFFSET),
        gpu_time_ns=_u64(page, slot + abi.USAGE_SLOT_GPU_TIME_NS_OFFSET),
        throttled_ns=_u64(page, slot + abi.USAGE_SLOT_THROTTLED_NS_OFFSET),
        wanted_at_ns=_u64(page, slot + abi.USAGE_SLOT_WANTED_AT_NS_OFFSET),
        managed_bytes=_u64(page, slot + abi.USAGE_SLOT_MANAGED_BYTES_OFFSET),
        overhead_bytes=_u64(page, slot + abi.USAGE_SLOT_OVERHEAD_BYTES_OFFSET),
    )


def _u32(page: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<I", page, offset)[0]
    return value


def _u64(page: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<Q", page, offset)[0]
    return min(value, MOST)
