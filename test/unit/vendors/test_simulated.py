"""Discovery on the simulated driver, which it takes for NVIDIA's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hacklib.native.build import build
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui

HERE = Path(__file__).parent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A driver root with an A100 and a T4, the T4 first on the bus."""
    simctl = build(preset="release", ui=Ui()) / "simgpu" / "simctl"
    cards = ["--model", "A100", "--model", "T4", "--pci", "0000:31:00.0,0000:17:00.0", "--numa", "1,0"]
    subprocess.run(
        [str(simctl), "create", "--root", str(tmp_path), *cards, "--driver-version", "570.124.06"],
        check=True,
        capture_output=True,
    )
    return tmp_path


@pytest.mark.native
def test_a_simulated_node_looks_like_a_real_one(root: Path) -> None:
    """Cards come in PCI order with all that NVML and sysfs say, files by their host paths; one that goes away is noticed."""
    done = subprocess.run(
        [sys.executable, HERE / "simulated_node.py", root],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin"},
    )
    first, second, third = json.loads(done.stdout)
    t4, a100 = first["gpus"]
    assert (t4["name"], t4["product_name"], t4["architecture"]) == ("gpu-0000-17-00-0", "Tesla T4", "Turing")
    assert (a100["name"], a100["minor"], a100["numa_node"]) == ("gpu-0000-31-00-0", 0, 1)
    assert a100["uuid"].startswith("GPU-")
    assert a100["memory_bytes"] == 80 << 30
    assert a100["compute_capability"] == [8, 0]
    assert a100["driver_version"] == "570.124.06"
    assert a100["pcie_root"] == "pci0000:31"
    assert a100["simulated"] is True
    assert a100["device_files"] == [
        {"host_path": "/opt/sim/dev/nvidia0", "container_path": "/dev/nvidia0", "character": False, "number": None}
    ]
    assert _libraries(first) == {
        "/opt/sim/usr/lib64/libcuda.so.570.124.06": ["libcuda.so.1", "libcuda.so"],
        "/opt/sim/usr/lib64/libnvidia-ml.so.570.124.06": ["libnvidia-ml.so.1", "libnvidia-ml.so"],
    }
    assert first["drivers"]["nvidia"]["environment"] == [["NVIDIA_VISIBLE_DEVICES", "void"]]
    assert [gpu["name"] for gpu in second["gpus"]] == ["gpu-0000-31-00-0"]
    assert third == first


def _libraries(look: Any) -> dict[str, list[str]]:
    return {library["host_path"]: library["names"] for library in look["drivers"]["nvidia"]["libraries"]}
