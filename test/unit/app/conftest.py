"""The node plugin as it is put together, with a card of AMD in a directory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hami_dra._lib.threads import Group
from hami_dra.app.node import NodeOptions, start_node
from hami_dra.app.node_config import ConfigOptions
from hami_dra.core.settings import CardMode, CardSettings
from hami_dra.testing.amdgpu import MI210, AmdCard, AmdMachine
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.eventually import eventually


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a name that is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="hami-") as path:
        yield Path(path)


@pytest.fixture
def options(directory: Path) -> NodeOptions:
    """Of a node plugin on a machine with one card of AMD."""
    AmdMachine(directory / "driver", AmdCard(model=MI210, pci="0000:17:00.0", unique_id=1))
    guard = directory / "libhami_guard.so"
    guard.write_bytes(b"a library")
    for name in ("registry", "cgroup"):
        (directory / name).mkdir()
    return NodeOptions(
        node_name="node-1",
        pod_uid="7f0c4a53",
        source="sim",
        driver_root=directory / "driver",
        host_driver_root=directory / "driver",
        device_root=None,
        host_device_root=directory / "driver",
        kubelet_root=directory / "k",
        cdi_dir=directory / "cdi",
        state_dir=directory / "state",
        mps_shm_dir=directory / "shm",
        cgroup_root=directory / "cgroup",
        guard=guard,
        settings=CardSettings(mode=CardMode.SHARES, slots=10),
        config=ConfigOptions(namespace="hami-system", config_map="hami-dra-node", key="config.yaml"),
        health_port=0,
        metrics_port=0,
        attribution=True,
        stale_claim_grace_s=600.0,
    )


@pytest.fixture
def server(options: NodeOptions) -> Iterator[FakeApiServer]:
    """An API server with a node plugin at work."""
    server = FakeApiServer()
    server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "uid": "node-1-uid"}})
    with Group("node") as group:
        start_node(group, options, server)
        eventually(lambda: server.objects("ResourceSlice"))
        yield server
