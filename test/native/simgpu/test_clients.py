"""Programs that nobody here wrote run unchanged."""

import subprocess
import sys

from native.simgpu.node import CLIENTS, Node


def test_numba_cuda_moves_arrays(node: Node) -> None:
    """Stock numba-cuda finds the cards, moves arrays over them on a stream, and hears of a full card."""
    seen = node.client("numba_arrays").json
    assert seen["names"] == ["NVIDIA A100-SXM4-80GB"] * 2
    assert seen["used"] == seen["wanted"]
    assert "CUDA_ERROR_OUT_OF_MEMORY" in seen["refused"]


def test_launches_are_counted_for_the_process(node: Node) -> None:
    """Kernels that cuda-bindings launches are counted, where simctl sees them."""
    with subprocess.Popen(
        [sys.executable, CLIENTS / "launches.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=node.environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "launched\n"
        (seen,) = node.cards()[0]["processes"]
        assert (seen["pid"], seen["contexts"], seen["launches"]) == (process.pid, 1, 3)
        process.communicate()
    assert process.returncode == 0
