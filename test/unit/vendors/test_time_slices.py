"""The driver's own tool sets the turns of a card; the simulated one obeys and says so."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hacklib.native.build import output_dir
from hami_dra.api.opaque import Interval
from hami_dra.core.errors import DriverError
from hami_dra.core.ids import GpuUuid
from hami_dra.vendors.nvidia import Root, TimeSlices

pytestmark = pytest.mark.native


def simctl(*arguments: str | Path) -> str:
    """What simctl says."""
    program = output_dir("release") / "simgpu" / "simctl"
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def cards(root: Path) -> list[dict[str, Any]]:
    """The cards as simctl sees them."""
    found: list[dict[str, Any]] = json.loads(simctl("list", "--root", root, "--json"))["cards"]
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A driver root with two cards."""
    simctl("create", "--root", tmp_path, "--model", "A100", "--count", "2")
    monkeypatch.setitem(os.environ, "SIMGPU_ROOT", str(tmp_path))
    return tmp_path


def test_each_interval_is_another_time(root: Path) -> None:
    """Rising from Short to Long, on the one card that was named; Default takes it back."""
    slices, uuid = TimeSlices(Root(path=root)), GpuUuid(cards(root)[1]["uuid"])
    seen = []
    for interval in (Interval.SHORT, Interval.MEDIUM, Interval.LONG, Interval.DEFAULT):
        slices.set(uuid, interval)
        seen.append([card["time_slice_ns"] for card in cards(root)])
    assert seen == [[0, 1_000_000], [0, 4_000_000], [0, 16_000_000], [0, 0]]


def test_what_the_driver_refuses_is_said_in_its_words(root: Path) -> None:
    """An unknown card, a driver root without the tool, a tool that is none."""
    with pytest.raises(DriverError, match="no card and no MIG device has this UUID"):
        TimeSlices(Root(path=root)).set(GpuUuid("GPU-nobody"), Interval.SHORT)
    tool = root / "usr" / "bin" / "nvidia-smi"
    tool.unlink()
    with pytest.raises(DriverError, match="there is no program nvidia-smi"):
        TimeSlices(Root(path=root)).set(GpuUuid("GPU-nobody"), Interval.SHORT)
    tool.write_text("no program")
    with pytest.raises(DriverError, match="cannot be run"):
        TimeSlices(Root(path=root)).set(GpuUuid("GPU-nobody"), Interval.SHORT)
