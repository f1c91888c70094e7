"""Kernels take time on a card, and processes take turns: what each of them got is told exactly."""

import random
import struct
import subprocess
from contextlib import ExitStack
from functools import partial

import pytest
from native.simgpu.node import Node, wait_until
from native.simgpu.test_state_file import ENGINE_SIZE, write_at

BUSY_OFFSET = 16
LOG_COUNT_OFFSET = 320
LOG_OFFSET = 384

MS = 1_000_000
TIME_SLICE_NS = 2 * MS
UNSEEN_NS = 20 * MS
"""What a process that was killed may have used since it last looked at the card, which nobody can know any more."""


def engine_offset(node: Node) -> int:
    """Where the engine of card 0 begins: the state file ends with those of all 32 cards."""
    return node.state_file.stat().st_size - 32 * ENGINE_SIZE


def gpu_times(node: Node) -> dict[int, int]:
    """GPU time of each living process on card 0, by pid."""
    return {process["pid"]: process["gpu_time_ns"] for process in node.cards()[0]["processes"]}


def busy(node: Node) -> int:
    """Time in which card 0 ran anything."""
    time_ns: int = node.cards()[0]["busy_ns"]
    return time_ns


def busy_beyond(node: Node, time_ns: int) -> bool:
    """Whether card 0 has run something since it had been busy for that long."""
    return busy(node) > time_ns


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


@pytest.mark.parametrize("word", [1, 0x7FF, 0x7FFFFFFF, 0xFFFFFFFF])
def test_an_engine_s_lock_of_nobody_is_taken_over(node: Node, word: int) -> None:
    """A card whose lock was left by a dead owner, or by nobody that can exist, goes on working, for readers too."""
    write_at(node, engine_offset(node), struct.pack("<II", word, 7))
    assert busy(node) == 0
    assert node.run([node.build / "workload", "finish", str(MS), "3"]).status == 0
    assert busy(node) == 3 * MS


def test_a_step_that_was_cut_off_by_a_kill_is_finished(node: Node) -> None:
    """What an owner of the lock had decided before it died happens: readers see it done, and the next owner does it."""
    write_at(node, engine_offset(node) + LOG_OFFSET, struct.pack("<QQ", BUSY_OFFSET, 5 * MS))
    write_at(node, engine_offset(node) + LOG_COUNT_OFFSET, struct.pack("<Q", 1))
    assert busy(node) == 5 * MS
    assert node.run([node.build / "workload", "finish", str(MS), "1"]).status == 0
    assert busy(node) == 6 * MS


def test_books_balance_whenever_processes_are_killed(node: Node) -> None:
    """Processes that launch without pause are killed at random moments: what they ran adds up to what the card did."""
    source = random.Random(3)  # noqa: S311 - moments, not secrets
    command = [str(node.build / "workload"), "saturate", str(MS // 50)]
    running = [subprocess.Popen(command, env=node.environment(), stdout=subprocess.DEVNULL) for _ in range(4)]
    try:
        for _ in range(30):
            wait_until(partial(busy_beyond, node, busy(node)), what="a card that goes on working")
            victim = source.randrange(len(running))
            running[victim].kill()
            running[victim].wait()
            running[victim] = subprocess.Popen(command, env=node.environment(), stdout=subprocess.DEVNULL)
    finally:
        for process in running:
            process.kill()
            process.wait()
    card = node.cards()[0]
    assert card["processes"] == []
    assert card["retired_gpu_time_ns"] == card["busy_ns"]
    assert node.run([node.build / "workload", "finish", str(MS), "1"]).status == 0
    assert busy(node) == card["busy_ns"] + MS


def test_processes_under_mps_run_at_once(node: Node) -> None:
    """With `simctl set --mps on` kernels of few blocks of two processes overlap: together they get more than the card's time."""
    assert node.simctl("set", "--root", node.root, "--mps", "on").status == 0
    with node.working("saturate", str(MS), "10", "1"), node.working("saturate", str(MS), "10", "1"):
        first = node.cards()[0]
        wait_until(lambda: busy(node) > first["busy_ns"] + 300 * MS, what="a card that is busy")
        second = node.cards()[0]
    used = [sum(process["gpu_time_ns"] for process in card["processes"]) for card in (first, second)]
    assert used[1] - used[0] > 1.5 * (second["busy_ns"] - first["busy_ns"])


def test_kernels_take_what_the_table_says(node: Node) -> None:
    """`simctl set --kernel` gives a kernel of any image its duration; the same name again changes it."""
    for duration in ("7ms", "2ms"):
        assert node.simctl("set", "--root", node.root, "--kernel", f"kernel={duration}").status == 0
    with node.running_client("launches"):
        assert busy(node) == 3 * 2 * MS
    assert node.simctl("set", "--root", node.root, "--kernel", "kernel=soon").status == 2
    assert node.simctl("set", "--root", node.root, "--time-slice", "1us").status == 2
