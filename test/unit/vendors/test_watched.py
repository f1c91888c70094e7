"""The watchdog on the simulated driver, with a program that nothing holds."""

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

pytestmark = pytest.mark.native


def watched(directory: Path, *words: str) -> Any:
    """What came of it."""
    simctl = build(preset="release", ui=Ui()) / "simgpu" / "simctl"
    card = ["--model", "A100", "--pci", "0000:17:00.0", "--driver-version", "570.124.06"]
    subprocess.run([str(simctl), "create", "--root", str(directory / "sim"), *card], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, HERE / "watched_node.py", directory / "sim", directory, *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'test'}", "PATH": "/usr/bin:/bin"},
    )
    return json.loads(done.stdout)


def test_a_program_past_the_guard_is_reported_with_what_it_holds(tmp_path: Path) -> None:
    """To the byte, on the claim and on its pod, and it goes on running."""
    found = watched(tmp_path, "Report")
    assert found["held"] == [12 << 30]
    assert [said.split(" by the driver ")[0] for said in found["said"]] == [
        f"{kind} Warning ShareLimitExceeded: device gpu-0000-17-00-0:" for kind in ("ResourceClaim", "Pod")
    ]
    assert "holds 12Gi of 8Gi" in found["said"][0]
    assert found["status"] == 0


def test_a_program_past_the_guard_is_stopped_where_that_is_the_policy(tmp_path: Path) -> None:
    """By a signal that it cannot catch, and its memory is free again."""
    found = watched(tmp_path, "Stop")
    assert found["status"] == -9
    assert found["held"] == [0]


def test_a_program_in_a_partition_is_held_against_the_share_of_that_partition(tmp_path: Path) -> None:
    """Its pod has a share on another one of the card as well, which is not blamed."""
    found = watched(tmp_path, "Report", "partitions")
    assert found["held"] == [0, 12 << 30]
    assert len(found["said"]) == 2
    assert all("-mig-2g-20gb-4: by the driver the share holds 12Gi of 8Gi" in said for said in found["said"])
