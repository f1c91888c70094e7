"""Usage files as values, whatever a tenant wrote into them."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra._gen import abi
from hami_dra.core.usage import MOST, Usage, decode

HEAD = abi.USAGE_MAGIC.encode() + struct.pack("<I", abi.ABI_VERSION)


def page(*parts: tuple[int, str, int]) -> bytes:
    """An initialised file with these values: offset, format, value."""
    made = bytearray(abi.USAGE_SIZE)
    made[: len(HEAD)] = HEAD
    for offset, form, value in parts:
        struct.pack_into(f"<{form}", made, offset, value)
    return bytes(made)


def slot(index: int, offset: int) -> int:
    """Where a field of a slot lies."""
    return abi.USAGE_HEADER_SIZE + index * abi.USAGE_SLOT_SIZE + offset


def test_what_the_processes_say_is_read() -> None:
    """Totals from the header, one process for each slot in use."""
    found = decode(
        page(
            (abi.USAGE_USED_BYTES_OFFSET, "Q", 5 << 30),
            (abi.USAGE_BUCKET_NS_OFFSET, "q", -7),
            (abi.USAGE_GPU_TIME_NS_OFFSET, "Q", 11),
            (slot(0, abi.USAGE_SLOT_WANTED_AT_NS_OFFSET), "Q", 99),
            (slot(3, abi.USAGE_SLOT_STATE_OFFSET), "I", 1),
            (slot(3, abi.USAGE_SLOT_PID_OFFSET), "i", 42),
            (slot(3, abi.USAGE_SLOT_WANTED_AT_NS_OFFSET), "Q", 13),
            (slot(1023, abi.USAGE_SLOT_STATE_OFFSET), "I", 1),
            (slot(1023, abi.USAGE_SLOT_USED_BYTES_OFFSET), "Q", 5 << 30),
        )
    )
    assert found is not None
    assert (found.used_bytes, found.bucket_ns, found.gpu_time_ns) == (5 << 30, -7, 11)
    assert [process.pid for process in found.processes] == [42, 0]
    assert found.processes[1].used_bytes == 5 << 30
    assert found.wanted_at_ns == 13


@pytest.mark.parametrize(
    "content",
    [b"", bytes(abi.USAGE_SIZE), page()[:-1], page((abi.USAGE_ABI_VERSION_OFFSET, "I", 9))],
    ids=["empty", "zero", "short", "another layout"],
)
def test_a_file_that_nobody_initialised_says_nothing(content: bytes) -> None:
    """Zero is what the node plugin makes; a tenant can cut it short or write another version."""
    assert decode(content) is None


def test_nobody_in_it_wants_nothing() -> None:
    """A file without processes has never wanted anything."""
    found = decode(page())
    assert found is not None
    assert (found.processes, found.wanted_at_ns) == ((), 0)


def bounded(usage: Usage) -> bool:
    """Whether every number is one that arithmetic can bear."""
    processes = [
        number
        for process in usage.processes
        for number in (getattr(process, name) for name in process.__dataclass_fields__)
    ]
    names = [name for name in usage.__dataclass_fields__ if name not in {"processes", "bucket_ns"}]
    numbers = [*processes, usage.wanted_at_ns, *(getattr(usage, name) for name in names)]
    return all(0 <= number <= MOST for number in numbers) and -MOST <= usage.bucket_ns <= MOST


@given(content=st.binary(max_size=600), size=st.integers(0, 2 * abi.USAGE_SIZE), initialised=st.booleans())
def test_any_bytes_decode_to_something_bounded(content: bytes, size: int, *, initialised: bool) -> None:
    """Nonsense, repeated to any size, with or without a sound header, is read as numbers within bounds or as nothing."""
    made = (content * (size // max(1, len(content)) + 1))[:size]
    found = decode(HEAD + made[len(HEAD) :] if initialised else made)
    assert found is None or bounded(found)


@pytest.mark.parametrize("byte", [b"\xff", b"\x80", b"\x01"])
def test_the_largest_numbers_are_cut(byte: bytes) -> None:
    """A file full of ones claims everything, and gets a number."""
    found = decode(HEAD + byte * (abi.USAGE_SIZE - len(HEAD)))
    assert found is not None
    assert bounded(found)
