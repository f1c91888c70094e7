"""The loop at the top of a namespace: starts, faults and the death of its keeper."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from cluster.support import tool_environment

from hacklib.cluster.namespaces import ProcessId
from hacklib.cluster.processes import ask
from hacklib.ui import HackError

SERVER = """
import sys
from pathlib import Path
from hacklib.cluster.components import Component
from hacklib.cluster.processes import Processes

folder = Path(sys.argv[1])
processes = Processes(folder=folder, logs=folder)
processes.begin(Component(name="job", argv=("sh", "-c", "echo begun")))
processes.finish()
processes.start(Component(name="sleeper", argv=("sh", "-c", "echo started; exec sleep 1000")))
processes.start(Component(name="deaf", argv=("sh", "-c", "echo $$ > $0; trap '' TERM; sleep 1000 & wait", sys.argv[1] + "/deaf")))
processes.serve(lifeline=int(sys.argv[2]))
"""


@dataclass(frozen=True)
class Served:
    """A process that serves in `folder` until `lifeline` is closed."""

    folder: Path
    process: subprocess.Popen[bytes]
    lifeline: BinaryIO


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Two components in a process of their own, which ends with the test."""
    folder = tmp_path / ("a" * 120)  # no address of a socket may be that long
    folder.mkdir()
    read, write = os.pipe()
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", SERVER]
    process = subprocess.Popen([*words, str(folder), str(read)], pass_fds=[read], env=tool_environment())
    os.close(read)
    while not (folder / "control.sock").exists():
        assert process.poll() is None
    made = Served(folder=folder, process=process, lifeline=os.fdopen(write, "wb"))
    yield made
    made.lifeline.close()
    process.kill()
    process.wait()


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a pid namespace needs root")


def test_a_component_goes_through_all_its_states(served: Served) -> None:
    """Each verb does what it says before it returns."""
    for verb, state in (
        ("pause", "paused"),
        ("resume", "running"),
        ("stop", "exited -15"),
        ("start", "running"),
        ("kill", "exited -9"),
        ("restart", "running"),
        ("pause", "paused"),
        ("restart", "running"),
    ):
        assert ask(served.folder, verb, "sleeper")["sleeper"] == state  # type: ignore[arg-type]  # a literal of the table above


def test_others_are_left_alone(served: Served) -> None:
    """To kill one component is not to kill another."""
    assert ask(served.folder, "kill", "sleeper") == {"sleeper": "exited -9", "deaf": "running"}


@pytest.mark.parametrize(
    ("verb", "name", "words"),
    [
        ("start", "nobody", "there are sleeper, deaf"),
        ("start", "sleeper", "running already"),
        ("dance", "sleeper", "is not one of"),
    ],
)
def test_requests_that_make_no_sense_are_refused_in_words(served: Served, verb: str, name: str, words: str) -> None:
    """A refusal changes nothing and says why."""
    with pytest.raises(HackError, match=words):
        ask(served.folder, verb, name)  # type: ignore[arg-type]  # the point of the test
    assert ask(served.folder, "list")["sleeper"] == "running"


def test_a_dead_component_cannot_be_paused(served: Served) -> None:
    """Signals go to living processes only."""
    ask(served.folder, "kill", "sleeper")
    with pytest.raises(HackError, match="start it first"):
        ask(served.folder, "pause", "sleeper")


def test_what_ends_by_itself_has_a_log(served: Served) -> None:
    """A job is waited for, and its output kept."""
    assert (served.folder / "job.log").read_text() == "begun\n"


def test_nobody_answers_once_the_lifeline_is_cut(served: Served) -> None:
    """The loop ends with its keeper, and its namespace with the loop."""
    first = ProcessId.of(served.process.pid)
    served.lifeline.close()
    assert served.process.wait(timeout=10) == 0
    assert first is not None
    assert not first.alive
    with pytest.raises(HackError, match="nobody answers"):
        ask(served.folder, "list")


def test_a_folder_where_nobody_ever_served(tmp_path: Path) -> None:
    """The error names the socket."""
    with pytest.raises(HackError, match=r"control\.sock"):
        ask(tmp_path, "list")
