"""Limits files as bytes."""

import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra._gen import abi
from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.ids import GpuUuid, ShareKey
from hami_dra.core.limits import Limits, decode, encode

LIMITS = Limits(
    share=ShareKey("gpu-0000-17-00-0-s1"),
    device_uuid=GpuUuid("GPU-00000000-0000-4000-8000-000000000000"),
    memory_limit_bytes=16 << 30,
    device_memory_bytes=80 << 30,
    cores_percent=30,
    qos=Qos.FIXED_SHARE,
    priority=Priority.HIGH,
)


@given(
    memory=st.integers(0, 2**64 - 1),
    cores=st.integers(0, 100),
    qos=st.sampled_from(Qos),
    priority=st.sampled_from(Priority),
    numbers=st.tuples(*(st.integers(0, 2**bits - 1) for bits in (64, 64, 32, 32))),
)
def test_a_page_is_read_back_as_it_was(
    memory: int, cores: int, qos: Qos, priority: Priority, numbers: tuple[int, int, int, int]
) -> None:
    """Every value survives, whatever it is."""
    limits = replace(LIMITS, memory_limit_bytes=memory, cores_percent=cores, qos=qos, priority=priority)
    generation, managed, granted, mps = numbers
    limits = replace(
        limits, generation=generation, managed_limit_bytes=managed, granted_permille=granted, mps_percent=mps
    )
    page = encode(limits)
    assert len(page) == abi.LIMITS_SIZE
    assert decode(page) == limits


def test_the_seqlock_is_not_part_of_the_checksum() -> None:
    """A writer at work changes the sequence without making the page look broken."""
    page = bytearray(encode(LIMITS))
    struct.pack_into("<I", page, abi.LIMITS_SEQUENCE_OFFSET, 2)
    assert decode(bytes(page)) == LIMITS


@given(position=st.integers(20, abi.LIMITS_SIZE - 1))
def test_any_flipped_byte_is_noticed(position: int) -> None:
    """The checksum covers the whole page, unused bytes included."""
    page = bytearray(encode(LIMITS))
    page[position] ^= 0x40
    with pytest.raises(ValueError, match="checksum"):
        decode(bytes(page))


@pytest.mark.parametrize("page", [b"", b"\0" * abi.LIMITS_SIZE, encode(LIMITS)[:-1]], ids=["empty", "zero", "short"])
def test_other_files_are_refused(page: bytes) -> None:
    """A truncated or foreign file is not a limits file."""
    with pytest.raises(ValueError, match="not a limits file"):
        decode(page)


def test_another_layout_is_refused() -> None:
    """A version that is not ours is not guessed at."""
    page = bytearray(encode(LIMITS))
    struct.pack_into("<I", page, abi.LIMITS_ABI_VERSION_OFFSET, 99)
    with pytest.raises(ValueError, match="layout 99"):
        decode(bytes(page))


def test_a_text_that_does_not_fit_is_refused() -> None:
    """A name is never cut: two shares could become one."""
    with pytest.raises(ValueError, match="does not fit"):
        encode(replace(LIMITS, share=ShareKey("x" * 160)))


@pytest.mark.parametrize("offset", [abi.LIMITS_QOS_OFFSET, abi.LIMITS_PRIORITY_OFFSET])
def test_a_word_that_nobody_knows_is_refused(offset: int) -> None:
    """A page of a later release may name a QoS that this one does not have."""
    page = bytearray(encode(LIMITS))
    struct.pack_into("<I", page, offset, 7)
    struct.pack_into("<I", page, abi.LIMITS_CHECKSUM_OFFSET, 0)
    struct.pack_into("<I", page, abi.LIMITS_CHECKSUM_OFFSET, zlib.crc32(page))
    with pytest.raises(ValueError, match="unknown value 7"):
        decode(bytes(page))
