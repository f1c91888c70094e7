"""The node plugin as it is put together, with a card of AMD in a directory: what it asks of the API server."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from node_rig import ref

from hami_dra._lib.threads import Group
from hami_dra.app.node import NodeOptions, start_node
from hami_dra.app.node_config import ConfigOptions
from hami_dra.core.settings import CardMode, CardSettings
from hami_dra.testing.amdgpu import MI210, AmdCard, AmdMachine
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.apiserver.server import Request
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, share_result
from hami_dra.testing.kubelet import FakeKubelet, PreparedClaim

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject, ResourceClaim

COLLECTION = re.compile(r"/api(s/[^/]+)?/v1/(?P<kind>[a-z]+)")
"""A collection of the whole cluster."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a name that is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="hami-") as path:
        yield Path(path)


@pytest.fixture
def server(directory: Path) -> Iterator[FakeApiServer]:
    """An API server with a node plugin at work."""
    server = FakeApiServer()
    server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "uid": "node-1-uid"}})
    AmdMachine(directory / "driver", AmdCard(model=MI210, pci="0000:17:00.0", unique_id=1))
    guard = directory / "libhami_guard.so"
    guard.write_bytes(b"a library")
    for name in ("registry", "cgroup"):
        (directory / name).mkdir()
    options = NodeOptions(
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
        cgroup_root=directory / "cgroup",
        guard=guard,
        settings=CardSettings(mode=CardMode.SHARES, slots=10),
        config=ConfigOptions(namespace="hami-system", config_map="hami-dra-node", key="config.yaml"),
        health_port=0,
        metrics_port=0,
        attribution=True,
    )
    with Group("node") as group:
        start_node(group, options, server)
        eventually(lambda: server.objects("ResourceSlice"))
        yield server


def _cluster_wide(request: Request) -> bool:
    """Whether a request is about all objects of a kind in all of the cluster."""
    return request.method == "GET" and bool(COLLECTION.fullmatch(request.path))


def test_a_node_reads_nothing_but_its_own(server: FakeApiServer, directory: Path) -> None:
    """What it lists or watches of the cluster it narrows to itself; claims it reads one by one; watches have bookmarks."""
    whole = share_result(share_id="") | {"request": "gpu"}
    stored = cast("ResourceClaim", server.add(cast("JsonObject", allocated_claim("train", whole))))
    (plugin,) = FakeKubelet(directory / "k" / "plugins_registry").scan()
    assert isinstance(plugin.prepare([ref(stored)])[ref(stored).uid], PreparedClaim)
    eventually(lambda: any(request.method == "PATCH" for request in server.requests))
    asked = [request for request in server.requests if _cluster_wide(request)]
    assert {request.path.rpartition("/")[2] for request in asked} == {"resourceslices", "nodes"}
    for request in asked:
        assert "node-1" in request.query.get("fieldSelector", ""), request
    for request in server.requests:
        assert not (request.method == "GET" and request.path.endswith("/resourceclaims")), request
        if request.query.get("watch") == "true":
            assert request.query.get("allowWatchBookmarks") == "true", request
