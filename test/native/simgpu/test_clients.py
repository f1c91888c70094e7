"""Programs that nobody here wrote run unchanged."""

from native.simgpu.node import Node


def test_numba_cuda_moves_arrays(node: Node) -> None:
    """Stock numba-cuda finds the cards, moves arrays over them on a stream, and hears of a full card."""
    seen = node.client("numba_arrays").json
    assert seen["names"] == ["NVIDIA A100-SXM4-80GB"] * 2
    assert seen["used"] == seen["wanted"]
    assert "CUDA_ERROR_OUT_OF_MEMORY" in seen["refused"]


def test_launches_are_counted_for_the_process(node: Node) -> None:
    """Kernels that cuda-bindings launches are counted, where simctl sees them."""
    with node.running_client("launches") as client:
        (seen,) = node.cards()[0]["processes"]
        assert (seen["pid"], seen["contexts"], seen["launches"]) == (client.pid, 1, 3)


def test_launches_from_before_cuda_4_count_too(node: Node) -> None:
    """Shape and parameters are set one by one on the function, and a launch without a shape is refused."""
    with node.running_client("legacy_launches"):
        (seen,) = node.cards()[0]["processes"]
        assert seen["launches"] == 3
