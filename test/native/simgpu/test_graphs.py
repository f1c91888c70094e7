"""Streams, events and graphs within one process: the C program checks each answer and each time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from native.simgpu.node import Node

from hacklib.native import Preset

PARTS = (["streams"], ["graphs"], ["threads", "4", "100"])


@pytest.mark.parametrize("arguments", PARTS, ids=lambda arguments: arguments[0])
def test_work_is_done_in_its_order_and_time(node: Node, arguments: list[str]) -> None:
    """Order of streams, times of events, host functions, graphs by hand and by capture, their refusals and their memory."""
    done = node.run([node.build / "schedule", *arguments])
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("preset", ["asan", "tsan"])
def test_the_order_holds_under_sanitizers(
    make_node: Callable[..., Node], sanitized: Callable[[Preset], Path], preset: Preset
) -> None:
    """The same without a report from AddressSanitizer, UBSan or TSan."""
    node = make_node("--model", "A100", build=sanitized(preset))
    for arguments in PARTS:
        done = node.run([node.build / "schedule", *arguments])
        assert (done.status, done.err) == (0, "")


def test_a_graph_of_stock_bindings_takes_the_time_of_its_kernels(node: Node) -> None:
    """cuda-bindings captures three kernels, asks the graph for them, launches it twice, and hears how long that took."""
    seen = node.client("captured_graph").json
    assert seen["kernels"] == 3
    assert seen["launched_ms"] >= 2 * (1 + 2 + 3)
    assert node.cards()[0]["busy_ns"] == 12_000_000
