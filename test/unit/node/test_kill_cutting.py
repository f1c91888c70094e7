"""Processes that cut cards through NVML, really killed."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from native.simgpu.node import Node

from hacklib.native.build import build
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui

pytestmark = pytest.mark.native

HERE = Path(__file__).parent
WANTED = [("1g.10gb", 6, 1), ("2g.20gb", 4, 1), ("3g.40gb", 0, 1)]
UIDS = ["large-uid", "medium-uid", "small-uid"]


@pytest.fixture(params=["A100", "H100"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    """A node with one card that is not in MIG mode."""
    made = Node(root=tmp_path / "driver", build=build(preset="release", ui=Ui()) / "simgpu")
    assert made.create("--model", request.param, "--pci", "0000:17:00.0").status == 0
    return made


def start(node: Node, what: str) -> "subprocess.Popen[str]":
    """A process on that node."""
    state = node.root.parent / "state"
    state.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, HERE / "cutting_node.py", state, node.root, what],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'test'}", "PATH": "/usr/bin"},
    )


def outcome(node: Node, what: str) -> Any:
    """What a process finds after it did that."""
    out, _ = start(node, what).communicate(timeout=60)
    return json.loads(out)


def instances(node: Node) -> list[tuple[str, int, int]]:
    """What simctl sees: profile, start and number of compute instances."""
    return sorted((i["profile"], i["start"], len(i["compute"])) for i in node.cards()[0]["mig"]["instances"])


def test_a_sigkill_at_any_moment_is_healed(node: Node) -> None:
    """Killed in the middle of making and destroying, a restart and kubelet's retry leave each instance once, and then none."""
    for round_number in range(6):
        process = start(node, "cut")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        threading.Event().wait(0.009 * (round_number + 1))
        process.kill()
        process.communicate(timeout=30)
        if round_number % 3 == 2:
            assert outcome(node, "heal") == {"cdi": UIDS, "ledger": dict.fromkeys(UIDS, "Completed")}
            assert instances(node) == WANTED
    assert outcome(node, "clear") == {"cdi": [], "ledger": {}}
    assert instances(node) == []


def test_an_administrators_instance_outlives_it_all(node: Node) -> None:
    """One of the three was there before: it is used as found through kills and restarts, and is there at the end."""
    assert node.simctl("mig", "enable", "--root", node.root).status == 0
    assert node.simctl("mig", "create", "--root", node.root, "--profile", "2g.20gb", "--start", "4").status == 0
    for moment_s in (0.01, 0.05):
        process = start(node, "cut")
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        threading.Event().wait(moment_s)
        process.kill()
        process.communicate(timeout=30)
    outcome(node, "heal")
    assert instances(node) == WANTED
    outcome(node, "clear")
    assert instances(node) == [("2g.20gb", 4, 1)]
