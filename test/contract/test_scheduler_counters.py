"""The real scheduler over what the publisher publishes: partitions fill a card, and no two of them overlap."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from unit.core.inventories import MIG, gpu

from hacklib.cluster.cluster import Cluster
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import AllocationResult, JsonObject
from hami_dra.api.names import DRIVER
from hami_dra.core.ids import NodeName
from hami_dra.core.inventory import Gpu, Inventory
from hami_dra.core.partitions import Placement, placements
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings
from hami_dra.kube.client import ClusterTransport, kubeconfig
from hami_dra.kube.nodes import node_uid
from hami_dra.kube.slices import NodeSlices
from hami_dra.kube.version import server_version
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.publisher import Publisher, PublisherInputs, PublisherOptions
from hami_dra.testing.eventually import eventually

pytestmark = pytest.mark.cluster

NODE = NodeName("node-1")
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
CARD = gpu(mig=MIG)
PLACES: dict[str, Placement] = {place.partition.name: place for place in placements(CARD)}
PROFILE = 'device.attributes["gpu.hami.io"].?migProfile.orValue("")'


@dataclass(frozen=True)
class Tenant:
    """A namespace whose pods want partitions."""

    transport: ClusterTransport
    namespace: str

    def want(self, name: str, profile: str, **requests: str) -> None:
        """A pod with a claim for a partition of that profile, "" for the card; `requests`: a share of it."""
        exactly: JsonObject = {
            "deviceClassName": DRIVER,
            "selectors": [{"cel": {"expression": f'{PROFILE} == "{profile}"'}}],
        } | ({"capacity": {"requests": requests}} if requests else {})
        claim = {"metadata": {"name": name}, "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}}
        self._post("apis/resource.k8s.io/v1", "resourceclaims", claim)
        container = {"name": "main", "image": "none", "resources": {"claims": [{"name": "r"}]}}
        spec = {"containers": [container], "resourceClaims": [{"name": "r", "resourceClaimName": name}]}
        self._post("api/v1", "pods", {"metadata": {"name": name}, "spec": spec})

    def end(self, name: str) -> None:
        """The pod and its claim are over."""
        pod = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        self.transport.request("DELETE", pod, query={"gracePeriodSeconds": "0"})
        self.transport.request("DELETE", f"{self._claims}/{name}")

    def given(self, name: str) -> AllocationResult | None:
        """What the claim was given, if anything."""
        claim = self.transport.request("GET", f"{self._claims}/{name}").body
        results = claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
        return results[0] if results else None

    def device(self, name: str) -> str:
        """The device that the claim is given, before long."""
        eventually(lambda: self.given(name), within_s=30)
        given = self.given(name)
        assert given is not None
        return given["device"]

    def wait_refused(self, name: str) -> None:
        """The scheduler says before long that the pod fits nowhere."""
        eventually(lambda: self._refused(name), within_s=30)

    def _refused(self, name: str) -> bool:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
        conditions = self.transport.request("GET", path).body["status"].get("conditions", [])
        return any(each.get("reason") == "Unschedulable" for each in conditions) and self.given(name) is None

    @property
    def _claims(self) -> str:
        return f"/apis/resource.k8s.io/v1/namespaces/{self.namespace}/resourceclaims"

    def _post(self, group: str, plural: str, body: dict[str, Any]) -> None:
        self.transport.request("POST", f"/{group}/namespaces/{self.namespace}/{plural}", body=body)


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[Tenant]:
    """A namespace, and one card that is published in partitions."""
    with cluster.network():
        transport = ClusterTransport(kubeconfig(cluster.kubeconfig))
        meta = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "partitions-"}}
        namespace = transport.request("POST", "/api/v1/namespaces", body=meta).body["metadata"]["name"]
        selector = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
        made = {"metadata": {"name": DRIVER}, "spec": {"selectors": [selector]}}
        transport.request("POST", CLASSES, body=made)
        slices = NodeSlices(transport, driver=DRIVER, node=NODE)
        publish(transport, slices, CARD)
        yield Tenant(transport, namespace)
        transport.request("DELETE", f"/api/v1/namespaces/{namespace}")
        transport.request("DELETE", f"{CLASSES}/{DRIVER}")
        for item in slices.list():
            slices.delete(item)


def publish(transport: ClusterTransport, slices: NodeSlices, card: Gpu) -> None:
    """As the node plugin does it."""
    Publisher(
        slices=slices,
        node_uid=lambda: node_uid(transport, NODE),
        server_version=lambda: server_version(transport).text,
        inputs=PublisherInputs(
            inventory=lambda: Inventory(gpus=(card,)),
            settings=lambda: NodeSettings(default=CardSettings(mode=CardMode.PARTITIONS)),
            held=frozenset,
        ),
        options=PublisherOptions(node=NODE),
        metrics=NodeMetrics(CollectorRegistry()),
        group=Group("publisher"),
    ).sync()


@pytest.mark.parametrize(("kubernetes", "mode", "devices"), [("1.34", "Shares", 1), ("1.35", "Partitions", 26)])
def test_older_releases_with_the_gates_open(kubernetes: str, mode: str, devices: int) -> None:
    """1.34 wants counters where their devices are, so its cards are shared; 1.35 takes partitions, which nobody shares there."""
    gates = dict.fromkeys(("DRAPartitionableDevices", "DRAConsumableCapacity", "DRADeviceTaints"), True)
    with warnings.catch_warnings():
        # The keeper of a cluster outlives the Popen object that started it.
        warnings.filterwarnings("ignore", message=r"subprocess \d+ is still running", category=ResourceWarning)
        running = Cluster.up(name=f"contract-{kubernetes[2:]}", nodes=1, kubernetes=kubernetes, feature_gates=gates)
    with running, running.network():
        transport = ClusterTransport(kubeconfig(running.kubeconfig))
        slices = NodeSlices(transport, driver=DRIVER, node=NODE)
        publish(transport, slices, CARD)
        published = [device for item in slices.list() for device in item["spec"].get("devices", [])]
        assert {device.get("attributes", {})["mode"].get("string") for device in published} == {mode}
        assert len(published) == devices
        assert {device.get("allowMultipleAllocations", False) for device in published} == {mode == "Shares"}


def test_partitions_fill_a_card_without_overlap(tenant: Tenant) -> None:
    """Three and four slices fill it; a seventh of it and the card itself wait until a place is free."""
    tenant.want("three", "3g.40gb")
    three = PLACES.get(tenant.device("three"))
    tenant.want("four", "4g.40gb")
    four = PLACES.get(tenant.device("four"))
    assert three is not None
    assert four is not None
    assert not three.overlaps(four)
    tenant.want("one", "1g.10gb")
    tenant.want("card", "")
    for name in ("one", "card"):
        tenant.wait_refused(name)
    tenant.end("four")
    one = PLACES.get(tenant.device("one"))
    assert one is not None
    assert not one.overlaps(three)


def test_a_partition_is_shared_and_its_place_is_taken_once(tenant: Tenant) -> None:
    """Two claims share one partition, counters and all; what overlaps it stays away."""
    tenant.want("half", "7g.80gb", memory="30Gi")
    tenant.want("other", "7g.80gb", memory="40Gi")
    assert tenant.device("half") == tenant.device("other")
    assert {given["shareID"] for name in ("half", "other") if (given := tenant.given(name))} != {""}
    for name, profile in (("one", "1g.10gb"), ("card", "")):
        tenant.want(name, profile, memory="1Gi")
        tenant.wait_refused(name)


def test_a_shared_card_has_no_partitions(tenant: Tenant) -> None:
    """Two claims share the card; no partition is given until they have ended."""
    for name in ("a", "b"):
        tenant.want(name, "", memory="10Gi")
        assert tenant.device(name) == CARD.name
    tenant.want("one", "1g.10gb")
    tenant.wait_refused("one")
    for name in ("a", "b"):
        tenant.end(name)
    assert PLACES.get(tenant.device("one")) is not None
