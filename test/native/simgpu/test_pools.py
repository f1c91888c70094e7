"""A pool holds more of the card than its allocations use, until something makes it let go."""

from native.simgpu.node import MIB, Node

UNIT = 2 * MIB
"""What pools reserve memory in."""


def test_a_pool_keeps_what_it_reserved_until_a_synchronisation(node: Node) -> None:
    """Freed memory stays charged, at once reusable, and goes back when the stream is synchronised."""
    seen = node.client("pools").json
    assert seen["allocated"] == 4 * UNIT
    assert seen["freed"] == 4 * UNIT
    assert seen["reused"] == 4 * UNIT
    assert seen["synchronized"] == 0


def test_a_release_threshold_keeps_memory_for_later(node: Node) -> None:
    """What is reserved stays up to the threshold, and goes when cuMemPoolTrimTo says so."""
    seen = node.client("pools").json
    assert (seen["kept"], seen["trimmed"]) == (3 * UNIT, UNIT)


def test_memory_that_a_pool_does_not_use_is_there_for_others(node: Node) -> None:
    """An allocation that does not fit is tried again once the process's pools gave back what they do not use."""
    assert node.client("pools").json["whole_card"] == 0


def test_a_pool_of_limited_size_refuses_the_next_byte(node: Node) -> None:
    """MaxSize holds for what is used, and is CUDA_ERROR_OUT_OF_MEMORY."""
    assert node.client("pools").json["beyond_most"] == 2
