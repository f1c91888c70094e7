"""The publisher against an API server that drops fields, deletes slices, refuses and goes away."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from prometheus_client import CollectorRegistry
from unit.core.inventories import MIG

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject, ResourceSlice
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import ApiUnavailable, Invalid, NotFound
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Inventory, fixed_share_name
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings
from hami_dra.kube.nodes import node_uid
from hami_dra.kube.reflector import Collection, Reflector
from hami_dra.kube.slices import SLICES_PATH, NodeSlices
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.publisher import Publisher, PublisherInputs, PublisherOptions, _Recent
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import NODE, gpu, inventory

NODE_OBJECT: JsonObject = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}


@dataclass
class World:
    """A cluster with one node, and its publisher."""

    gates: dict[str, bool] = field(default_factory=dict)
    hardware: Inventory | None = field(default_factory=inventory)
    settings: NodeSettings = field(default_factory=lambda: NodeSettings(default=CardSettings(slots=8)))
    held: frozenset[DeviceName] = frozenset()
    version: str = "v1.36.0"
    group: Group = field(default_factory=lambda: Group("publisher"))
    clock: FakeClock = field(default_factory=FakeClock)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.server = FakeApiServer(gates=self.gates)
        self.server.add(NODE_OBJECT)
        self.slices = NodeSlices(self.server, driver=DRIVER, node=NODE)
        self.metrics = NodeMetrics(self.registry)
        self.publisher = self.new_publisher()

    def new_publisher(self) -> Publisher:
        """As a new process has it."""
        return Publisher(
            slices=self.slices,
            node_uid=lambda: node_uid(self.server, NODE),
            server_version=lambda: self.version,
            inputs=PublisherInputs(
                inventory=lambda: self.hardware, settings=lambda: self.settings, held=lambda: self.held
            ),
            options=PublisherOptions(node=NODE, retry_gates_s=100.0),
            metrics=self.metrics,
            group=self.group,
            clock=self.clock,
        )

    @property
    def devices(self) -> list[JsonObject]:
        """Everything that is published."""
        return [dict(device) for item in self.slices.list() for device in item["spec"].get("devices", [])]

    @property
    def writes(self) -> int:
        """How many requests changed something."""
        return sum(request.method != "GET" and "dryRun" not in request.query for request in self.server.requests)

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric."""
        return self.registry.get_sample_value(name, labels)

    def run(self) -> None:
        """Publish in the background, and follow the slices."""
        self.group.spawn("publisher", self.publisher.run)
        collection = Collection(SLICES_PATH, field_selector=self.slices.field_selector)
        Reflector(self.server, collection, self.publisher).start(self.group, name="slices")


@pytest.fixture
def world() -> Iterator[World]:
    """A 1.36 cluster."""
    world = World()
    yield world
    world.group.stop()
    world.group.join(10.0)


@pytest.fixture
def old_world() -> Iterator[World]:
    """A cluster whose API server does not know consumable capacity."""
    world = World(gates={"DRAConsumableCapacity": False}, version="v1.34.2")
    yield world
    world.group.stop()


def test_a_shareable_card_is_published_and_owned_by_its_node(world: World) -> None:
    """The slice carries the capacities and their policies, and goes with the Node."""
    world.publisher.sync()
    (item,) = world.slices.list()
    (device,) = world.devices
    assert device["allowMultipleAllocations"] is True
    assert set(device["capacity"]) == {"memory", "cores", "slots"}
    assert item["spec"]["pool"] == {"name": "node-1/gpu", "generation": 1, "resourceSliceCount": 1}
    (owner,) = item["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", NODE, node_uid(world.server, NODE))
    assert world.publisher.published
    assert world.metric("hami_dra_published_cards", mode="Shares") == 1
    assert world.metric("hami_dra_published_devices") == 1


def test_nothing_is_written_twice(world: World) -> None:
    """A second look and a second process find everything as it should be."""
    world.publisher.sync()
    before = world.writes
    world.publisher.sync()
    world.new_publisher().sync()
    assert world.writes == before


def test_closed_gates_bring_fixed_shares_and_one_warning(old_world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a closed gate cards are cut into fixed shares, and one warning says which gate to open, however often one looks."""
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            old_world.publisher.sync()
            old_world.clock.advance(200.0)
    assert [device["name"] for device in old_world.devices] == [f"gpu-0000-17-00-0-share-{i}" for i in range(4)]
    assert not any("allowMultipleAllocations" in device for device in old_world.devices)
    assert old_world.devices[0]["attributes"]["mode"] == {"string": "FixedShares"}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "open the feature gates DRAConsumableCapacity on kube-apiserver" in warning
    assert old_world.metric("hami_dra_publisher_dropped_gates", gate="DRAConsumableCapacity") == 1
    assert old_world.metric("hami_dra_published_cards", mode="FixedShares") == 1
    assert old_world.metric("hami_dra_published_devices") == 4


def test_a_closed_gate_is_found_before_anything_is_published(old_world: World) -> None:
    """Nobody ever sees a device that the server cut down: one write, and it is the right one."""
    old_world.publisher.sync()
    assert old_world.writes == 1


def test_what_a_real_write_loses_counts_as_well(old_world: World) -> None:
    """Servers of one cluster can differ: one kept everything in the dry run, another drops it."""

    class Divided(NodeSlices):
        """A cluster whose dry runs are answered by a newer server."""

        def try_create(self, wanted: ResourceSlice) -> ResourceSlice:
            return wanted

    old_world.slices = Divided(old_world.server, driver=DRIVER, node=NODE)
    old_world.new_publisher().sync()
    assert [device["name"] for device in old_world.devices] == [f"gpu-0000-17-00-0-share-{i}" for i in range(4)]


def test_a_cluster_that_takes_no_dry_runs_is_read_back(old_world: World) -> None:
    """An admission webhook may refuse them: what is kept shows when it is written."""

    class Strict(NodeSlices):
        """A cluster with such a webhook."""

        def try_create(self, wanted: ResourceSlice) -> ResourceSlice:
            raise Invalid(f"admission webhook does not support dry run of {wanted['metadata']['generateName']}")

    old_world.slices = Strict(old_world.server, driver=DRIVER, node=NODE)
    old_world.new_publisher().sync()
    assert [device["name"] for device in old_world.devices] == [f"gpu-0000-17-00-0-share-{i}" for i in range(4)]


def test_a_server_that_refuses_counters_of_their_own_gets_shares(world: World) -> None:
    """1.34 wants counters in the slice of their devices: as good as a closed gate."""

    class Old(NodeSlices):
        """A server of 1.34 with the gate open."""

        def try_create(self, wanted: ResourceSlice) -> ResourceSlice:
            if any("consumesCounters" in device for device in wanted["spec"].get("devices", [])):
                raise Invalid("spec.devices[0].consumesCounters[0].counterSet: Not found")
            return super().try_create(wanted)

    world.slices = Old(world.server, driver=DRIVER, node=NODE)
    world.hardware = Inventory(gpus=(replace(gpu(), mig=MIG),))
    world.settings = NodeSettings(default=CardSettings(mode=CardMode.PARTITIONS))
    world.new_publisher().sync()
    (device,) = world.devices
    assert device["attributes"]["mode"] == {"string": "Shares"}


def test_partitions_are_published_with_their_counters(world: World) -> None:
    """Counters in a slice of their own, all in one generation."""
    world.hardware = Inventory(gpus=(replace(gpu(), mig=MIG),))
    world.settings = NodeSettings(default=CardSettings(mode=CardMode.PARTITIONS))
    world.version = "v1.36.3"
    world.publisher.sync()
    specs = [item["spec"] for item in world.slices.list()]
    assert {(spec["pool"]["generation"], spec["pool"]["resourceSliceCount"]) for spec in specs} == {(1, 2)}
    assert sum("sharedCounters" in spec for spec in specs) == 1
    assert len(world.devices) == 26
    assert all(device["allowMultipleAllocations"] for device in world.devices)
    before = world.writes
    world.publisher.sync()
    assert world.writes == before


def test_a_change_of_mode_waits_for_the_claims_on_the_card(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once, counted, and done when the card is free."""
    world.publisher.sync()
    world.held = frozenset({gpu().name})
    world.settings = NodeSettings(default=CardSettings(mode=CardMode.FIXED_SHARES))
    for _ in range(2):
        world.publisher.sync()
    assert [device["name"] for device in world.devices] == [gpu().name]
    assert world.metric("hami_dra_waiting_cards") == 1
    assert sum("keeps its layout until" in record.getMessage() for record in caplog.records) == 1
    world.held = frozenset()
    world.publisher.sync()
    assert len(world.devices) == 4
    assert world.metric("hami_dra_waiting_cards") == 0


def test_a_card_that_waits_is_cut_soon_after_it_is_free(world: World) -> None:
    """Nobody has to call: the end of a claim is noticed.  Until it was published, nobody is told what is offered."""
    world.settings = NodeSettings(default=CardSettings(mode=CardMode.FIXED_SHARES, fixed_shares=2))
    world.held = frozenset({fixed_share_name(gpu().name, 0)})
    world.run()
    assert world.publisher.offers().parts(gpu()) == 2
    assert len(world.devices) == 2
    world.settings = NodeSettings(default=CardSettings(mode=CardMode.FIXED_SHARES, fixed_shares=4))
    world.publisher.wake()
    eventually(lambda: world.metric("hami_dra_waiting_cards") == 1)
    assert world.publisher.offers().parts(gpu()) == 2
    world.held = frozenset()
    eventually(lambda: len(world.devices) == 4)
    eventually(lambda: world.publisher.offers().parts(gpu()) == 4)


def test_a_card_that_is_left_out_goes_when_it_is_free(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever leaves out a card that is in use is told what becomes of it."""
    world.publisher.sync()
    world.held = frozenset({gpu().name})
    world.settings = NodeSettings(cards={gpu().name: None})
    world.publisher.sync()
    assert len(world.devices) == 1
    assert "it is not offered any more then" in caplog.text
    world.held = frozenset()
    world.publisher.sync()
    assert world.devices == []


def test_the_richer_layout_is_not_tried_at_every_look(old_world: World) -> None:
    """What the server dropped a minute ago it drops now: nothing is written."""
    old_world.publisher.sync()
    before = old_world.writes
    old_world.clock.advance(50.0)
    old_world.publisher.sync()
    assert old_world.writes == before


@pytest.mark.parametrize("upgraded", [True, False])
def test_the_richer_layout_comes_back(old_world: World, *, upgraded: bool) -> None:
    """After an upgrade of the server at once, and after a while in any case, sharing is tried again."""
    old_world.publisher.sync()
    old_world.server.gates["DRAConsumableCapacity"] = True
    if upgraded:
        old_world.version = "v1.36.0"
    else:
        old_world.clock.advance(101.0)
    old_world.publisher.sync()
    assert old_world.devices[0]["allowMultipleAllocations"] is True
    assert old_world.metric("hami_dra_publisher_dropped_gates", gate="DRAConsumableCapacity") is None


def test_a_node_without_cards_publishes_an_empty_slice(world: World) -> None:
    """An empty slice says that the driver runs; the cards follow when the driver is there."""
    world.hardware = None
    world.publisher.sync()
    (item,) = world.slices.list()
    assert item["spec"].get("devices", []) == []
    world.hardware = inventory(2)
    world.publisher.sync()
    assert len(world.devices) == 2


def test_a_restart_does_not_take_back_what_is_published(world: World) -> None:
    """Before the first look at the hardware nobody knows that the cards are gone."""
    world.publisher.sync()
    world.hardware = None
    world.new_publisher().sync()
    assert len(world.devices) == 1
    world.hardware = Inventory()
    world.publisher.sync()
    assert world.devices == []


def test_slices_of_another_pool_are_removed(world: World) -> None:
    """What an older release published under another pool's name goes."""
    spec = {
        "driver": DRIVER,
        "nodeName": NODE,
        "pool": {"name": NODE, "generation": 1, "resourceSliceCount": 1},
        "devices": [],
    }
    world.server.add(
        {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "old"}, "spec": spec}
    )
    world.publisher.sync()
    assert {item["spec"]["pool"]["name"] for item in world.slices.list()} == {"node-1/gpu"}


def test_slices_that_kubelet_deleted_come_back(world: World) -> None:
    """A kubelet that starts deletes all slices of its node; the publisher hears of it and writes them again."""
    world.run()
    eventually(lambda: world.devices)
    (item,) = world.slices.list()
    world.server.remove(dict(item) | {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice"})
    eventually(lambda: world.devices)


def test_an_outage_is_waited_out(world: World) -> None:
    """Refusals and a server that is away are tried again until the slices are there."""
    world.server.fail_next(2, 503, method="POST", path_contains="resourceslices")
    world.clock = FakeClock(jumps=True)
    world.group = Group("jumping", clock=world.clock)
    world.publisher = world.new_publisher()
    world.run()
    eventually(lambda: world.publisher.published)
    assert len(world.devices) == 1
    assert world.metric("hami_dra_publish_failures_total", reason="KubernetesApi") == 2
    world.group.stop()


def test_errors_are_left_to_the_loop(world: World) -> None:
    """A single attempt raises what the API server said."""
    world.server.outage()
    with pytest.raises(ApiUnavailable):
        world.publisher.sync()
    assert not world.publisher.published


def test_a_node_that_is_not_registered_yet(world: World) -> None:
    """Without a Node there is no owner, and nothing is published."""
    world.server.remove(NODE_OBJECT | {"metadata": world.server.objects("Node")[0]["metadata"]})
    with pytest.raises(NotFound):
        world.publisher.sync()
    assert world.slices.list() == []


def test_changes_of_our_own_are_published_at_once(world: World) -> None:
    """However many there are in a minute; only slices that somebody else changes again and again are left alone for a while."""
    for slots in range(1, 9):
        world.settings = NodeSettings(default=CardSettings(slots=slots))
        world.publisher.sync()
        assert world.devices[0]["capacity"]["slots"]["value"] == str(slots)
    assert world.publisher._recent.delay_s(world.clock.monotonic()) == 0.0
    for _ in range(4):
        for item in world.slices.list():
            world.slices.delete(item)
        world.publisher.sync()
    assert world.publisher._recent.delay_s(world.clock.monotonic()) == 2.0


def test_two_publishers_that_disagree_do_not_fight(world: World) -> None:
    """A few publications a minute are free; whoever publishes more waits longer and longer, up to a cap."""
    recent = _Recent(times=[0.0, 1.0])
    assert recent.delay_s(2.0) == 0.0
    recent.times += [2.0, 3.0, 4.0]
    assert recent.delay_s(5.0) == 4.0
    recent.times += [float(moment) for moment in range(5, 20)]
    assert recent.delay_s(20.0) == 30.0
    assert recent.delay_s(1000.0) == 0.0
    assert not world.publisher.published


def test_a_look_at_unchanged_hardware_asks_the_api_server_nothing(world: World) -> None:
    """Thousands of nodes look at their cards every minute; only a change is the API server's business."""
    world.publisher.sync()
    world.publisher.inventory_read()
    assert not world.publisher._wake.is_set()
    world.hardware = inventory(2)
    world.publisher.inventory_read()
    assert world.publisher._wake.is_set()
