"""The sensor on the simulated driver, which it takes for NVIDIA's."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hacklib.native.build import build
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui
from hami_dra.core.device_health import Effect, Ends
from hami_dra.vendors.nvidia.xids import TABLE, xid_fault

HERE = Path(__file__).parent
A100, T4 = "gpu-0000-17-00-0", "gpu-0000-31-00-0"

pytestmark = pytest.mark.native


class Node:
    """A simulated node with an A100 and a T4, and a process that asks for their health."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._simctl = build(preset="release", ui=Ui()) / "simgpu" / "simctl"
        cards = ["--model", "A100", "--model", "T4", "--pci", "0000:17:00.0,0000:31:00.0"]
        self.programs: list[subprocess.Popen[str]] = []
        self.simctl("create", *cards, "--driver-version", "570.124.06")
        self._process = subprocess.Popen(
            [sys.executable, HERE / "sensed_node.py", root, A100, T4],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin"},
        )

    def program(self, *, uuid: str) -> int:
        """The pid of a program with a context on that MIG device."""
        places = {"SIMGPU_ROOT": str(self.root), "LD_LIBRARY_PATH": str(self.root / "usr" / "lib64")}
        program = subprocess.Popen(
            [self._simctl.parent / "exercise", "hold", "1048576"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=places | {"CUDA_VISIBLE_DEVICES": uuid},
        )
        self.programs.append(program)
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        return program.pid

    def simctl(self, *arguments: str) -> None:
        """Make something happen."""
        command = [str(self._simctl), *arguments, "--root", str(self.root)]
        subprocess.run(command, check=True, capture_output=True)

    def ask(self, word: str) -> Any:
        """One question."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def answers(self) -> dict[str, bool]:
        """Which cards answer."""
        return {name: pulse["answers"] for name, pulse in self.ask("pulses").items()}

    def close(self) -> None:
        """End the process, and the programs."""
        for program in self.programs:
            with program:
                program.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0
        self._process.stdout.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node that was looked at and watched once, so that events are delivered from now on."""
    found = Node(tmp_path)
    assert found.ask("faults") == {"error": "DriverError"}  # no session before the first look
    assert found.ask("look") == [A100, T4]
    assert found.ask("faults") == []
    yield found
    found.close()


def test_xids_and_ecc_errors_come_once_each_with_their_card(node: Node) -> None:
    """In the order in which they happened."""
    node.simctl("inject", "--card", "0", "--xid", "31")
    node.simctl("inject", "--card", "1", "--xid", "48")
    node.simctl("inject", "--card", "0", "--ecc", "double")
    node.simctl("inject", "--card", "0", "--ecc", "single")
    assert node.ask("faults") == [
        [A100, "xid", "31", "None"],
        [T4, "xid", "48", "NoSchedule"],
        [A100, "ecc", "double-bit", "NoSchedule"],
        [A100, "ecc", "single-bit", "None"],
    ]
    assert node.ask("faults") == []


def test_an_xid_of_a_partition_is_that_partitions(node: Node) -> None:
    """Where nothing can run there before the card is reset, the card gets nothing new; a fault of shared parts is the card's."""
    node.simctl("mig", "enable", "--card", "0")
    node.simctl("mig", "create", "--card", "0", "--profile", "2g.20gb", "--start", "2")
    (uuid,) = node.ask("instances")
    pid = str(node.program(uuid=uuid))
    part = f"{A100}-mig-2g-20gb-2"
    for xid in ("13", "95", "119"):
        node.simctl("inject", "--card", "0", "--xid", xid, "--pid", pid)
    assert node.ask("faults") == [
        [part, "xid", "13", "None"],
        [part, "xid", "95", "NoExecute"],
        [A100, "xid", "95", "NoSchedule"],
        [A100, "xid", "119", "NoSchedule"],
    ]


def test_an_xid_of_a_partition_that_is_gone_is_the_cards(node: Node) -> None:
    """Nobody can say any more what the instance was."""
    node.simctl("mig", "enable", "--card", "0")
    node.simctl("mig", "create", "--card", "0", "--profile", "1g.10gb", "--start", "6")
    (uuid,) = node.ask("instances")
    node.simctl("inject", "--card", "0", "--xid", "94", "--pid", str(node.program(uuid=uuid)))
    (program,) = node.programs
    program.kill()
    program.wait()
    node.simctl("mig", "destroy", "--card", "0")
    assert node.ask("faults") == [[A100, "xid", "94", "None"]]


def test_counters_and_remapped_rows_are_in_the_pulse(node: Node) -> None:
    """As long as they are so; a card that has no such counters says nothing of them."""
    node.simctl("inject", "--card", "0", "--ecc", "double", "--count", "3")
    node.simctl("inject", "--card", "0", "--remapped", "pending")
    node.simctl("inject", "--card", "0", "--remapped", "failed")
    pulses = node.ask("pulses")
    assert pulses[A100]["errors"] == 3
    assert [fault["value"] for fault in pulses[A100]["standing"]] == ["pending", "failed"]
    assert (pulses[T4]["standing"], pulses[T4]["wants_reset"]) == ([], False)
    node.simctl("inject", "--card", "0", "--none")
    pulses = node.ask("pulses")
    assert (pulses[A100]["errors"], pulses[A100]["standing"]) == (0, [])


@pytest.mark.parametrize("gone", [[], ["--gone"]], ids=["lost", "gone"])
def test_a_lost_card_has_a_pulse_that_says_so_and_comes_back(node: Node, gone: list[str]) -> None:
    """Its XID comes first, events of the other card go on, and after it is back it is watched again."""
    node.simctl("lose", "--card", "0", *gone)
    assert node.ask("faults") == [[A100, "xid", "79", "NoExecute"]]
    assert node.answers() == {A100: False, T4: True}
    assert node.ask("look") == [T4]
    node.simctl("inject", "--card", "1", "--xid", "13")
    node.ask("faults")  # of a session that knows only one card
    node.simctl("restore", "--card", "0")
    assert node.ask("look") == [A100, T4]
    assert node.answers() == {A100: True, T4: True}
    assert node.ask("faults") == []
    node.simctl("inject", "--card", "0", "--xid", "94")
    assert node.ask("faults") == [[A100, "xid", "94", "None"]]


def test_a_driver_that_was_loaded_again_says_so_in_every_pulse(node: Node) -> None:
    """While it is not loaded nobody answers; what happens afterwards is seen again."""
    node.simctl("unload")
    assert node.ask("pulses") == {"error": "DriverUnloaded"}
    assert node.ask("look") == {"error": "DriverUnloaded"}
    assert node.ask("faults") == {"error": "DriverError"}
    node.simctl("reload")
    assert node.ask("look") == [A100, T4]
    assert {pulse["loads"] for pulse in node.ask("pulses").values()} == {1}
    assert node.ask("faults") == []
    node.simctl("inject", "--card", "1", "--xid", "62")
    assert node.ask("faults") == [[T4, "xid", "62", "NoSchedule"]]


def test_faults_of_programs_never_mark_a_card() -> None:
    """Any tenant can bring them about; what nobody knows keeps nobody away either, and has one value for all."""
    for code in (13, 31, 43, 45, 68, 109):
        assert (xid_fault(code).effect, xid_fault(code).ends) == (Effect.NONE, Ends.QUIET)
    assert xid_fault(9999).value == "other"
    assert xid_fault(9999).effect is Effect.NONE


def test_every_message_names_the_xid_and_says_what_to_do() -> None:
    """Kubelet shows it in the pod's status."""
    for code in TABLE:
        assert xid_fault(code).message.startswith(f"XID {code}, ")
