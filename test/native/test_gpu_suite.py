"""The hardware suite holds on the simulated GPU, so that it is ready for the day there is another."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from hacklib.gpu import make_bundle
from hacklib.native import build
from hacklib.ui import Ui

pytestmark = pytest.mark.native


def test_the_bundle_alone_proves_the_promises(tmp_path: Path) -> None:
    """Copied out of the tree, the bundle's `run` finds every promise kept, on a card that is not there."""
    simgpu = build(preset="release", ui=Ui()) / "simgpu"
    node = tmp_path / "node"
    subprocess.run([simgpu / "simctl", "create", "--root", node, "--model", "H100"], check=True, capture_output=True)
    run = make_bundle(tmp_path / "bundle", ui=Ui(), static_runtime=False)
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [run, "--scale", "0.1", "--above", "15", "--below", "100", "--out", figures],
        env=os.environ | {"SIMGPU_ROOT": str(node), "LD_LIBRARY_PATH": str(node / "usr" / "lib64")},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    promises = {name: word for name, word in json.loads(figures.read_text()).items() if name.startswith("promise ")}
    not_tried = [name for name, word in promises.items() if word != "ok"]
    assert len(promises) >= 8
    assert not_tried == ["promise a_static_runtime_is_limited"]
