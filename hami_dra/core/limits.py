"""The bytes of a limits file, by the layout of `api/abi`.

`encode` writes a complete page; `decode` reads one back (before it is changed in place; the guard has its own reader in C).
Invariant: `decode(encode(x)) == x`, and the checksum covers every byte but the seqlock and itself.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from hami_dra._gen import abi
from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.ids import GpuUuid, ShareKey

__all__ = ["Limits", "decode", "encode"]

E = TypeVar("E")

_QOS = {
    Qos.FIXED_SHARE: abi.QOS_FIXED_SHARE,
    Qos.BURST_SHARE: abi.QOS_BURST_SHARE,
    Qos.BEST_EFFORT: abi.QOS_BEST_EFFORT,
}
_PRIORITY = {Priority.LOW: abi.PRIORITY_LOW, Priority.NORMAL: abi.PRIORITY_NORMAL, Priority.HIGH: abi.PRIORITY_HIGH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the guard holds one share to."""

    share: ShareKey
    device_uuid: GpuUuid
    memory_limit_bytes: int
    """0: no memory limit."""
    device_memory_bytes: int
    cores_percent: int
    """0: no compute limit."""
    qos: Qos
    priority: Priority
    managed_limit_bytes: int = 0
    """Managed memory allowed beyond `memory_limit_bytes`; 0: none."""
    granted_permille: int = 0
    """Compute granted for now in thousandths of the device; 0: `cores_percent` holds."""
    mps_percent: int = 0
    """Of the multiprocessors, for clients of MPS; 0: not under MPS."""
    generation: int = 1
    """Grows by one with each change."""


def encode(limits: Limits) -> bytes:
    """The page of a limits file.

    Raises:
        ValueError: a text does not fit its field.
    """
    page = bytearray(abi.LIMITS_SIZE)
    _text(page, offset=abi.LIMITS_MAGIC_OFFSET, length=8, text=abi.LIMITS_MAGIC)
    _text(page, offset=abi.LIMITS_DEVICE_UUID_OFFSET, length=abi.LIMITS_DEVICE_UUID_LENGTH - 1, text=limits.device_uuid)
    _text(page, offset=abi.LIMITS_SHARE_OFFSET, length=abi.LIMITS_SHARE_LENGTH - 1, text=limits.share)
    for offset, value in (
        (abi.LIMITS_ABI_VERSION_OFFSET, abi.ABI_VERSION),
        (abi.LIMITS_QOS_OFFSET, _QOS[limits.qos]),
        (abi.LIMITS_PRIORITY_OFFSET, _PRIORITY[limits.priority]),
        (abi.LIMITS_CORES_PERCENT_OFFSET, limits.cores_percent),
        (abi.LIMITS_GRANTED_PERMILLE_OFFSET, limits.granted_permille),
        (abi.LIMITS_MPS_PERCENT_OFFSET, limits.mps_percent),
    ):
        struct.pack_into("<I", page, offset, value)
    for offset, value in (
        (abi.LIMITS_MEMORY_LIMIT_BYTES_OFFSET, limits.memory_limit_bytes),
        (abi.LIMITS_DEVICE_MEMORY_BYTES_OFFSET, limits.device_memory_bytes),
        (abi.LIMITS_GENERATION_OFFSET, limits.generation),
        (abi.LIMITS_MANAGED_LIMIT_BYTES_OFFSET, limits.managed_limit_bytes),
    ):
        struct.pack_into("<Q", page, offset, value)
    struct.pack_into("<I", page, abi.LIMITS_CHECKSUM_OFFSET, zlib.crc32(page))
    return bytes(page)


def decode(page: bytes) -> Limits:
    """Read a page back.

    Raises:
        ValueError: not a limits file of this layout, or its checksum is wrong.
    """
    if len(page) != abi.LIMITS_SIZE or page[: len(abi.LIMITS_MAGIC)] != abi.LIMITS_MAGIC.encode():
        raise ValueError(f"not a limits file: {len(page)} bytes, starting with {page[:8]!r}")
    if (version := _u32(page, abi.LIMITS_ABI_VERSION_OFFSET)) != abi.ABI_VERSION:
        raise ValueError(f"limits file of layout {version}, expected {abi.ABI_VERSION}")
    bare = bytearray(page)
    struct.pack_into("<I", bare, abi.LIMITS_SEQUENCE_OFFSET, 0)
    struct.pack_into("<I", bare, abi.LIMITS_CHECKSUM_OFFSET, 0)
    if zlib.crc32(bare) != _u32(page, abi.LIMITS_CHECKSUM_OFFSET):
        raise ValueError("limits file with a wrong checksum")
    qos = _read_enum(_QOS, _u32(page, abi.LIMITS_QOS_OFFSET))
    priority = _read_enum(_PRIORITY, _u32(page, abi.LIMITS_PRIORITY_OFFSET))
    return Limits(
        share=ShareKey(_read_text(page, abi.LIMITS_SHARE_OFFSET, abi.LIMITS_SHARE_LENGTH)),
        device_uuid=GpuUuid(_read_text(page, abi.LIMITS_DEVICE_UUID_OFFSET, abi.LIMITS_DEVICE_UUID_LENGTH)),
        memory_limit_bytes=_u64(page, abi.LIMITS_MEMORY_LIMIT_BYTES_OFFSET),
        device_memory_bytes=_u64(page, abi.LIMITS_DEVICE_MEMORY_BYTES_OFFSET),
        cores_percent=_u32(page, abi.LIMITS_CORES_PERCENT_OFFSET),
        qos=qos,
        priority=priority,
        managed_limit_bytes=_u64(page, abi.LIMITS_MANAGED_LIMIT_BYTES_OFFSET),
        granted_permille=_u32(page, abi.LIMITS_GRANTED_PERMILLE_OFFSET),
        mps_percent=_u32(page, abi.LIMITS_MPS_PERCENT_OFFSET),
        generation=_u64(page, abi.LIMITS_GENERATION_OFFSET),
    )


def _text(page: bytearray, *, offset: int, length: int, text: str) -> None:
    raw = text.encode()
    if len(raw) > length:
        raise ValueError(f"{text!r} does not fit {length} bytes of a limits file")
    page[offset : offset + len(raw)] = raw


def _read_text(page: bytes, offset: int, length: int) -> str:
    return page[offset : offset + length].split(b"\0", 1)[0].decode()


def _read_enum(numbers: Mapping[E, int], number: int) -> E:
    for value, known in numbers.items():
        if known == number:
            return value
    raise ValueError(f"limits file with the unknown value {number}")


def _u32(page: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<I", page, offset)[0]
    return value


def _u64(page: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<Q", page, offset)[0]
    return value
