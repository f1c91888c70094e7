"""The node plugin as it is put together, with a card of AMD in a directory: what it asks of the API server."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, cast

from node_rig import ref

from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.apiserver.server import Request
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, share_result
from hami_dra.testing.kubelet import FakeKubelet, PreparedClaim

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject, ResourceClaim

COLLECTION = re.compile(r"/api(s/[^/]+)?/v1/(?P<kind>[a-z]+)")
"""A collection of the whole cluster."""


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
