"""Real processes, really killed."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from node_rig import EFFECTS, Facts, Rig

from hami_dra.testing.gpus import allocated_claim

HERE = Path(__file__).parent
KEY = "gpu-0000-17-00-0-6b0f2a6e-0000-4000-8000-000000000001"
PREPARED = Facts(shares={f"train-uid/{KEY}"}, cdi={"train-uid"}, ledger={"train-uid": "Completed"})


def start(directory: Path, root: Path, *words: str) -> subprocess.Popen[str]:
    """A process that prepares a claim; it is ready when this returns."""
    process = subprocess.Popen(
        [sys.executable, HERE / "killed_node.py", directory, *words],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{root}:{root / 'test'}", "PATH": "/usr/bin"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def restart_and_retry(directory: Path) -> Facts:
    """What lies there after a restart and kubelet's retry."""
    rig = Rig(directory)
    rig.prepare(rig.claims.add(allocated_claim()))
    facts = rig.facts()
    rig.close()
    return facts


@pytest.mark.parametrize("effect", [f"{effect}{when}" for effect in EFFECTS for when in ("", " done")])
def test_a_sigkill_at_any_effect_is_healed(tmp_path: Path, pytestconfig: pytest.Config, effect: str) -> None:
    """After kill -9 between any two effects, a restart and kubelet's retry leave one of everything."""
    process = start(tmp_path, pytestconfig.rootpath, effect)
    process.communicate(timeout=30.0)
    assert process.returncode == -signal.SIGKILL
    assert restart_and_retry(tmp_path) == PREPARED


def test_a_sigkill_at_any_moment_is_healed(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Killed at odd moments, in the middle of files and transactions, the node still comes back to one of everything."""
    for round_number in range(6):
        process = start(tmp_path, pytestconfig.rootpath)
        threading.Event().wait(0.013 * (round_number + 1))
        process.kill()
        process.communicate(timeout=30.0)
        assert restart_and_retry(tmp_path) == PREPARED
