"""Memory is accounted across processes, given out up to the card's last byte, and given back when a process dies."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from native.simgpu.node import GIB, MIB, Node, wait_until

from hacklib.native import Preset


def test_data_comes_back_and_a_full_card_refuses(node: Node) -> None:
    """Bytes survive the way over the card; every byte of it can be had, and the next one is CUDA_ERROR_OUT_OF_MEMORY."""
    seen = node.client("cuda_memory").json
    assert seen["total"] == node.cards()[0]["memory_bytes"]
    assert seen["allocated"] == seen["wanted"]
    assert (seen["too_much"], seen["none_left"], seen["left"]) == (2, 2, 0)


def test_eight_processes_are_accounted_and_given_back_after_sigkill(node: Node) -> None:
    """Each of eight processes counts until it is killed, in simctl's figures, in NVML's and in what others can get."""
    with ExitStack() as stack:
        holders = [stack.enter_context(node.holding(10 * GIB)) for _ in range(8)]
        (card, other) = node.cards()
        assert (card["used_bytes"], other["used_bytes"]) == (80 * GIB, 0)
        assert {process["pid"]: process["used_bytes"] for process in card["processes"]} == {
            holder.pid: 10 * GIB for holder in holders
        }
        nvml = node.client("nvml_discovery").json["cards"][0]
        assert nvml["used_bytes"] == 80 * GIB
        assert {int(pid) for pid in nvml["processes"]} == {holder.pid for holder in holders}
        assert node.exercise("hold", "1").status == 2
        for holder in holders[:3]:
            holder.send_signal(signal.SIGKILL)
            holder.wait()
        assert node.used() == 50 * GIB
        with node.holding(30 * GIB):
            assert node.used() == 80 * GIB
    assert node.used() == 0


def test_a_stopped_process_keeps_its_memory(node: Node) -> None:
    """Only death gives memory back: a process that is stopped, however long, holds what it held."""
    with node.holding(GIB) as holder:
        holder.send_signal(signal.SIGSTOP)
        assert node.used() == GIB
        assert node.exercise("hold", str(80 * GIB)).status == 2


def test_processes_of_other_pid_namespaces_count(node: Node) -> None:
    """A process in a pid namespace of its own is seen with its pid out here, and is given back when it is killed."""
    with node.holding(GIB, prefix=["unshare", "--pid", "--fork", "--kill-child"]) as outer:
        (process,) = node.cards()[0]["processes"]
        assert process["pid"] == int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        os.kill(process["pid"], signal.SIGKILL)
        wait_until(lambda: node.used() == 0, what="memory given back")


def test_accounts_survive_kills_at_any_moment(make_node: Callable[..., Node]) -> None:
    """Processes that allocate without pause are killed at random: what is held never exceeds the card, and ends at zero."""
    node = make_node("--model", "T4", "--memory", "64M")
    random_source = random.Random(11)  # noqa: S311 - moments, not secrets
    command = [str(node.build / "exercise"), "churn", "0", str(16 * MIB)]
    running = [subprocess.Popen(command, env=node.environment()) for _ in range(6)]
    try:
        for _ in range(60):
            victim = random_source.randrange(len(running))
            running[victim].kill()
            running[victim].wait()
            assert node.used() <= 64 * MIB
            running[victim] = subprocess.Popen(command, env=node.environment())
    finally:
        for process in running:
            process.kill()
            process.wait()
    (card,) = node.cards()
    assert card["used_bytes"] == 0
    assert 0 < card["peak_bytes"] <= 64 * MIB
    assert node.exercise("routes").status == 0


def test_a_peak_never_contains_what_the_dead_held(node: Node) -> None:
    """Of three processes two die unseen; what a fourth takes makes a peak only together with what the living hold."""
    with node.holding(10 * GIB), node.holding(GIB) as second, node.holding(20 * GIB) as third:
        for victim in (third, second):
            victim.kill()
            victim.wait()
        with node.holding(15 * GIB):
            (card, _) = node.cards()
            assert (card["used_bytes"], card["peak_bytes"]) == (25 * GIB, 31 * GIB)
        with node.holding(30 * GIB):
            assert node.cards()[0]["peak_bytes"] == 40 * GIB


def test_what_is_seen_never_exceeds_the_card_while_processes_allocate_without_pause(
    make_node: Callable[..., Node],
) -> None:
    """Observers read a file that changes faster than they can read it, and still see what was held at one instant."""
    node = make_node("--model", "T4", "--memory", "8M")
    command = [str(node.build / "exercise"), "churn", "0", str(2 * MIB)]
    running = [subprocess.Popen(command, env=node.environment()) for _ in range(4)]
    try:
        wait_until(lambda: node.cards()[0]["peak_bytes"] > 6 * MIB, what="a card that is almost full")
        assert max(node.used() for _ in range(200)) <= 8 * MIB
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert node.used() == 0


def test_contexts_cost_what_the_card_is_set_to(node: Node) -> None:
    """A context is free of charge until `simctl set` gives it a price, which counts for processes that start then."""
    assert node.simctl("set", "--root", node.root, "--card", "0", "--context-overhead", "300M").status == 0
    with node.holding(MIB):
        assert node.used() == 301 * MIB
    assert node.simctl("set", "--root", node.root, "--context-overhead", "0").status == 0
    with node.holding(MIB):
        assert node.used() == MIB


@pytest.mark.parametrize("mode", ["LAZY", "EAGER"])
def test_the_driver_charges_for_code_and_limits_where_a_card_is_set_to(node: Node, mode: str) -> None:
    """A module costs its image and variables, from its first use or at once; heap and stacks cost what exceeds the defaults."""
    threads = 2048 * 108
    assert node.simctl("set", "--root", node.root, "--card", "0", "--driver-memory", "on").status == 0
    seen = node.client("driver_memory", env={"CUDA_MODULE_LOADING": mode}).json
    module = seen["code"] + 3 * MIB
    assert (seen["loaded"], seen["asked"], seen["unloaded"]) == (module if mode == "EAGER" else 0, module, 0)
    assert (seen["heap"], seen["stack"]) == (32 * MIB, 32 * MIB + 1024 * threads)
    assert (seen["refused"], seen["kept"]) == (2, 40 * MIB)
    assert node.used() == 0


def test_a_forked_child_has_no_driver_and_takes_nothing_from_its_parent(node: Node) -> None:
    """After fork the child gets CUDA_ERROR_NOT_INITIALIZED, as from the real driver; the parent's memory stays."""
    seen = node.client("after_fork").json
    assert seen == {"child": [3, 3, 3], "parent_used": MIB}


@pytest.mark.parametrize("preset", ["asan", "tsan"])
def test_the_library_is_clean_under_sanitizers(
    make_node: Callable[..., Node], sanitized: Callable[[Preset], Path], preset: Preset
) -> None:
    """Every route to memory, its misuse, and eight threads at once: no report from AddressSanitizer, UBSan or TSan."""
    node = make_node("--model", "A100", build=sanitized(preset))
    for arguments in (["routes"], ["threads", "8", "1000"]):
        done = node.exercise(*arguments)
        assert (done.status, done.err) == (0, "")


def test_all_routes_of_the_release_build(node: Node) -> None:
    """The library that ships to tests and demos answers like those with sanitizers."""
    assert node.exercise("routes").status == 0
    assert node.exercise("threads", "16", "2000").status == 0
