"""What the tests of the cluster tools share."""

import os
from pathlib import Path

from hacklib import paths
from hacklib.cluster.spec import ClusterName, ClusterSpec, NodeMount

HACK = paths.REPOSITORY / "hack"


def make_spec(folder: Path, *, nodes: int = 2) -> ClusterSpec:
    """A cluster that nobody starts."""
    return ClusterSpec(
        name=ClusterName("one"),
        folder=folder,
        programs=Path("/programs"),
        kubernetes="1.36.3",
        nodes=nodes,
        feature_gates={"DRAConsumableCapacity": True, "AllAlpha": False},
        pause_image="docker.io/library/pause:1",
        images=(Path("/a.tar"),),
        node_mounts=(NodeMount(node=1, source="/src", target="/var/lib/dst"),),
    )


def tool_environment() -> dict[str, str]:
    """The environment in which a child process can import hacklib."""
    return os.environ | {"PYTHONPATH": str(HACK)}
