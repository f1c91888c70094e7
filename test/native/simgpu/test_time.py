"""Kernels take time on a card, and processes take turns: what each of them got is told exactly."""

from contextlib import ExitStack

import pytest
from native.simgpu.node import Node, wait_until

MS = 1_000_000
TIME_SLICE_NS = 2 * MS
UNSEEN_NS = 20 * MS
"""What a process that was killed may have used since it last looked at the card, which nobody can know any more."""


def gpu_times(node: Node) -> dict[int, int]:
    """GPU time of each living process on card 0, by pid."""
    return {process["pid"]: process["gpu_time_ns"] for process in node.cards()[0]["processes"]}


def busy(node: Node) -> int:
    """Time in which card 0 ran anything."""
    time_ns: int = node.cards()[0]["busy_ns"]
    return time_ns


@pytest.mark.parametrize(("duration_ns", "count"), [(10_000, 3000), (1 * MS, 20), (200 * MS, 1)])
def test_kernels_take_exactly_the_time_they_ask_for(node: Node, duration_ns: int, count: int) -> None:
    """Events around kernels in a row measure their sum, and the card was busy for exactly that long."""
    done = node.run([node.build / "workload", "finish", str(duration_ns), str(count)])
    assert done.err == ""
    assert float(done.out) >= duration_ns * count / MS
    card = node.cards()[0]
    assert card["busy_ns"] == duration_ns * count
    assert card["retired_gpu_time_ns"] == duration_ns * count
    assert card["processes"] == []


@pytest.mark.parametrize("durations_ns", [(MS, MS), (MS // 10, 50 * MS), (MS, 3 * MS, 200 * MS)])
def test_processes_that_want_all_of_a_card_get_equal_parts(node: Node, durations_ns: tuple[int, ...]) -> None:
    """Time slices go round whatever the length of the kernels: no two differ by more than what one may be ahead."""
    with ExitStack() as running:
        pids = [running.enter_context(node.working("saturate", str(duration_ns))).pid for duration_ns in durations_ns]
        first = gpu_times(node)
        wait_until(lambda: busy(node) > 1500 * MS, what="a card that is busy")
        second = gpu_times(node)
    grown = [second[pid] - first[pid] for pid in pids]
    assert max(grown) - min(grown) <= 2 * TIME_SLICE_NS
    card = node.cards()[0]
    assert card["retired_gpu_time_ns"] == card["busy_ns"] >= sum(second.values()) - UNSEEN_NS


def test_a_process_that_dies_leaves_the_card_to_others(node: Node) -> None:
    """A kernel ends with its process, however long it was to run; what it has used stays in the card's books."""
    with node.working("hold", str(3600 * 1000 * MS)) as process:
        wait_until(lambda: gpu_times(node)[process.pid] > 30 * MS, what="a kernel that runs")
    card = node.cards()[0]
    assert card["processes"] == []
    assert 0 < card["retired_gpu_time_ns"] == card["busy_ns"]
    assert node.run([node.build / "workload", "finish", str(MS), "1"]).status == 0
    assert busy(node) == card["busy_ns"] + MS


def test_a_second_stream_runs_beside_the_first_when_there_is_room(node: Node) -> None:
    """Kernels of few blocks in two streams overlap: the card is busy with both at once, and the process pays once."""
    with node.working("saturate", str(MS), "10", "8") as process:
        wait_until(lambda: busy(node) > 100 * MS, what="a card that is busy")
        card = node.cards()[0]
    (seen,) = card["processes"]
    assert seen["pid"] == process.pid
    assert seen["gpu_time_ns"] == card["busy_ns"]
    assert seen["launches"] > 2 * card["busy_ns"] // MS
