"""An API server that is away for an hour, with a wall clock that jumps meanwhile: what a node does without both."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from node_rig import Rig
from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ResourceClaim
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import ApiUnavailable
from hami_dra.core.settings import CardSettings, NodeSettings
from hami_dra.kube.nodes import node_uid
from hami_dra.kube.slices import NodeSlices
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.publisher import Publisher, PublisherInputs, PublisherOptions
from hami_dra.node.stale import StaleClaims
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.gpus import NODE, POOL, allocated_claim, inventory, share_result

DAY_S = 86_400.0


class Node:
    """A node with a publisher, and claims that are looked up now and then."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.rig = Rig(directory)
        self.server = FakeApiServer()
        self.server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        self.slices = NodeSlices(self.server, driver=DRIVER, node=NODE)
        self.publisher = Publisher(
            slices=self.slices,
            node_uid=lambda: node_uid(self.server, NODE),
            server_version=lambda: "v1.36.0",
            inputs=PublisherInputs(
                inventory=self.rig.discovery.current,
                settings=lambda: NodeSettings(default=CardSettings(slots=8)),
                held=frozenset,
            ),
            options=PublisherOptions(node=NODE),
            metrics=NodeMetrics(CollectorRegistry()),
            group=Group("outage", clock=self.clock),
            clock=self.clock,
        )
        self.stale = StaleClaims(
            claims=self.rig.claims,
            state=self.rig.state,
            files=self.rig.files,
            pool=POOL,
            released=lambda: None,
            clock=self.clock,
        )

    def claim(self, name: str) -> ResourceClaim:
        """A claim in use."""
        claim = allocated_claim(name, share_result(share_id=f"share-{name}", memory_gib=8, cores=0))
        users = [{"resource": "pods", "name": f"{name}-pod", "uid": f"{name}-pod-uid"}]
        return cast(
            "ResourceClaim", claim | {"status": cast("dict[str, Any]", claim["status"]) | {"reservedFor": users}}
        )

    def away(self, *, is_away: bool) -> None:
        """The API server goes or comes back."""
        self.rig.claims.down = is_away
        (self.server.outage if is_away else self.server.recover)()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A node with one card."""
    node = Node(tmp_path)
    yield node
    node.rig.close()


def test_an_hour_without_the_api_server_harms_nobody(node: Node) -> None:
    """Who runs keeps everything, who ends is unprepared, kubelet's restart finds what it had; afterwards all goes on."""
    staying, leaving = (node.rig.claims.add(node.claim(name)) for name in ("staying", "leaving"))
    node.publisher.sync()
    node.rig.prepare(staying)
    prepared = node.rig.facts()
    node.rig.prepare(leaving)
    node.away(is_away=True)
    newcomer = node.rig.claims.add(node.claim("newcomer"))
    for minute in range(60):
        node.clock.advance(60.0)
        node.clock.jump(DAY_S if minute % 2 else -DAY_S)
        with pytest.raises(ApiUnavailable):
            node.stale.look()
        with pytest.raises(ApiUnavailable):
            node.publisher.sync()
        node.rig.discovery.look()
        if minute == 30:
            node.rig.unprepare(leaving)
            node.rig.prepare(staying)
            with pytest.raises(ApiUnavailable):
                node.rig.prepare(newcomer)
        assert node.rig.facts() == prepared or minute < 30
    node.rig.hardware = inventory(2)
    node.rig.discovery.look()
    node.away(is_away=False)
    node.publisher.sync()
    assert len([device for item in node.slices.list() for device in item["spec"].get("devices", [])]) == 2
    node.stale.look()
    node.rig.prepare(newcomer)
    assert node.rig.facts().ledger == {"staying-uid": "Completed", "newcomer-uid": "Completed"}


def test_a_wall_clock_that_jumps_neither_releases_nor_keeps_a_claim(node: Node) -> None:
    """The grace of a stale claim is time that passed, whatever the date is."""
    gone = node.rig.claims.add(node.claim("gone"))
    node.rig.prepare(gone)
    del node.rig.claims.claims["ml", "gone"]
    node.stale.look()
    node.clock.jump(DAY_S)
    node.stale.look()
    assert node.rig.facts().ledger
    node.clock.jump(-2 * DAY_S)
    node.clock.advance(600.0)
    node.stale.look()
    assert not node.rig.facts().ledger
