"""The driver's control daemon is started, asked, and ended, and says how it ended."""

import os
import signal
from pathlib import Path

import pytest
from unit.vendors.test_time_slices import cards, root

from hami_dra.core.errors import DriverError
from hami_dra.core.ids import GpuUuid
from hami_dra.testing.eventually import eventually
from hami_dra.vendors.nvidia import MpsPrograms, Root

__all__ = ["root"]

pytestmark = pytest.mark.native


def folders(path: Path) -> dict[str, Path]:
    """Pipe and log directory."""
    made = {"pipes": path / "pipe", "logs": path / "log"}
    for folder in made.values():
        folder.mkdir()
    return made


def test_a_daemon_runs_until_it_is_stopped(root: Path) -> None:
    """While it does its card runs all processes at once."""
    daemon = MpsPrograms(Root(path=root)).start(GpuUuid(cards(root)[0]["uuid"]), **folders(root))
    eventually(lambda: daemon.ask(["get_server_list"]) == "")
    assert daemon.ended() is None
    assert [card["mps"] for card in cards(root)] == [True, False]
    daemon.stop()
    daemon.stop()
    assert daemon.ended() == "nvidia-cuda-mps-control ended with status 0"
    assert not any(card["mps"] for card in cards(root))


def test_how_a_daemon_ended_is_said(root: Path) -> None:
    """By which signal, or with which words."""
    programs, places = MpsPrograms(Root(path=root)), folders(root)
    daemon = programs.start(GpuUuid(cards(root)[0]["uuid"]), **places)
    os.kill(daemon.pid, signal.SIGKILL)
    eventually(lambda: daemon.ended() == "nvidia-cuda-mps-control was killed by signal 9")
    nobody = programs.start(GpuUuid("GPU-nobody"), **places)
    eventually(lambda: "no card and no MIG device has this UUID" in (nobody.ended() or ""))
    assert nobody.ask(["get_server_list"]) is None


def test_a_driver_without_the_program_says_so(root: Path) -> None:
    """And so does one whose program is none."""
    program, places = root / "usr" / "bin" / "nvidia-cuda-mps-control", folders(root)
    program.unlink()
    with pytest.raises(DriverError, match="there is no program nvidia-cuda-mps-control"):
        MpsPrograms(Root(path=root)).start(GpuUuid("GPU-nobody"), **places)
    program.write_text("no program")
    with pytest.raises(DriverError, match="cannot be run"):
        MpsPrograms(Root(path=root)).start(GpuUuid("GPU-nobody"), **places)
