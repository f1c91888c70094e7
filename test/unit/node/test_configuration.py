"""The node configuration in force: followed live, refused as a whole, remembered over a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.app.node_config import ConfigOptions, follow_node_config, new_node_config
from hami_dra.core.errors import NodeStateError
from hami_dra.core.node_config import Remembered
from hami_dra.core.settings import CardSettings
from hami_dra.kube.events import EventRecorder
from hami_dra.node.config_metrics import ConfigMetrics
from hami_dra.node.configuration import NodeConfiguration
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import NODE, gpu, inventory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from hami_dra.api.k8s import JsonObject

OPTIONS = ConfigOptions(namespace="hami-system", config_map="hami-dra-node", key="config.yaml")
HEAD = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\nentries:\n"
WRONG = HEAD + "- slots: many\n"


def slots(number: int, **labels: str) -> str:
    """A configuration that gives every card so many slots, on nodes with these labels."""
    chosen = ", ".join(f"{key}: {value}" for key, value in labels.items())
    return f"{HEAD}- name: test\n  nodeSelector: {{matchLabels: {{{chosen}}}}}\n  slots: {number}\n"


@dataclass
class World:
    """A cluster with one node, and one process after another that follows its configuration."""

    state_dir: Path
    server: FakeApiServer = field(default_factory=FakeApiServer)
    group: Group = field(default_factory=lambda: Group("configuration"))
    heard: list[int | None] = field(default_factory=list)
    """The card's slots whenever a listener was told, since it was settled what holds."""

    def __post_init__(self) -> None:
        self.node = self.server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
        self.restart()

    def restart(self) -> None:
        """A new process, which has not yet asked anybody."""
        self.group.stop()
        self.group.join(10.0)
        self.group = Group("configuration")
        self.registry = CollectorRegistry()
        self.events = EventRecorder(self.server, component="hami-dra-node", host=NODE)
        self.configuration = new_node_config(
            OPTIONS,
            base=CardSettings(slots=7),
            state_dir=self.state_dir,
            events=self.events,
            registry=self.registry,
        )
        self.configuration.listen(self.hear)
        self.heard.clear()

    def hear(self) -> None:
        """Look, as a listener does."""
        if self.configuration.settled:
            self.heard.append(self.slots)

    def follow(self) -> None:
        """Ask the API server, and wait until that has settled what holds."""
        self.events.start(self.group)
        follow_node_config(self.group, OPTIONS, node=NODE, transport=self.server, configuration=self.configuration)
        eventually(lambda: self.heard)

    def write(self, text: str, *, key: str = "config.yaml") -> None:
        """Apply the ConfigMap."""
        found = self.server.objects("ConfigMap")
        if found:
            self.server.change(found[0] | {"data": {key: text}})
        else:
            metadata = {"namespace": OPTIONS.namespace, "name": OPTIONS.config_map}
            self.server.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {key: text}})

    def label(self, labels: Mapping[str, str]) -> None:
        """Give the node these labels and no others."""
        (node,) = self.server.objects("Node")
        self.server.change(node | {"metadata": node["metadata"] | {"labels": dict(labels)}})

    @property
    def slots(self) -> int | None:
        """Of the node's card, None where it is left out."""
        card = self.configuration.settings(inventory()).settings_for(gpu())
        return None if card is None else card.slots

    @property
    def source(self) -> str:
        """Where the configuration comes from, by the metric."""
        names = ("ConfigMap", "LastGood", "Defaults")
        (found,) = [name for name in names if self.metric("hami_dra_node_config_source", source=name)]
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric."""
        return self.registry.get_sample_value(name, labels)

    @property
    def said(self) -> list[JsonObject]:
        """All Events."""
        return self.server.objects("Event")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A node without a configuration."""
    world = World(tmp_path)
    yield world
    world.group.stop()
    world.group.join(10.0)


def test_without_a_config_map_the_command_line_holds(world: World) -> None:
    """That is no fault: nobody is told of one."""
    world.follow()
    assert (world.slots, world.source, world.said) == (7, "Defaults", [])
    assert world.metric("hami_dra_node_config_refused") == 0


def test_what_is_there_at_the_start_holds_before_anything_follows_from_it(world: World) -> None:
    """A start settles on the ConfigMap and on the labels of the node, not on one of them."""
    world.write(slots(3, pool="a"))
    world.label({"pool": "a"})
    assert not world.configuration.settled
    world.follow()
    assert (world.slots, world.source) == (3, "ConfigMap")


def test_a_change_is_followed(world: World) -> None:
    """Of the ConfigMap and of the node's labels; whoever listens is told."""
    world.follow()
    world.write(slots(3))
    eventually(lambda: world.slots == 3)
    world.write(slots(4, pool="a"))
    eventually(lambda: world.slots == 7)
    world.label({"pool": "a"})
    eventually(lambda: len(world.heard) == 4 and world.heard[-1] == 4)
    assert world.metric("hami_dra_node_config_loads_total", result="accepted") == 2


def test_a_wrong_configuration_is_refused_as_a_whole(world: World) -> None:
    """The one before stays, and an Event on the ConfigMap says which field is wrong; a right one ends it."""
    world.follow()
    world.write(slots(3))
    eventually(lambda: world.slots == 3)
    world.write(slots(5) + "- slots: many\n")
    eventually(lambda: world.said)
    (event,) = world.said
    assert event["involvedObject"]["kind"] == "ConfigMap"
    assert event["involvedObject"]["uid"] == world.server.objects("ConfigMap")[0]["metadata"]["uid"]
    assert (event["type"], event["reason"], event["metadata"]["namespace"]) == (
        "Warning",
        "InvalidConfig",
        "hami-system",
    )
    assert 'entries.1.slots: found "many"; input should be a valid integer' in event["message"]
    assert (world.slots, world.source) == (3, "ConfigMap")
    assert world.metric("hami_dra_node_config_refused") == 1
    assert world.metric("hami_dra_node_config_loads_total", result="refused") == 1
    world.write(slots(6))
    eventually(lambda: world.slots == 6)
    assert world.metric("hami_dra_node_config_refused") == 0


def test_the_last_good_one_survives_a_restart(world: World) -> None:
    """A new process that finds a wrong ConfigMap, or none that it can read, goes on with what was in force."""
    world.write(slots(3, pool="a"))
    world.label({"pool": "a"})
    world.follow()
    world.write(WRONG)
    eventually(lambda: world.said)
    world.restart()
    assert (world.slots, world.source) == (3, "LastGood")
    world.follow()
    assert (world.slots, world.source) == (3, "LastGood")
    world.write(slots(4))
    eventually(lambda: (world.slots, world.source) == (4, "ConfigMap"))


def test_a_wrong_one_that_was_never_good_leaves_the_defaults(world: World) -> None:
    """A key that is not there is such a fault: the message names those that are."""
    world.write(slots(3), key="config.yml")
    world.follow()
    eventually(lambda: world.said)
    assert "data: found config.yml, expected the key config.yaml" in world.said[0]["message"]
    assert (world.slots, world.source) == (7, "Defaults")


def test_a_config_map_without_data_has_no_key_at_all(world: World) -> None:
    """The API server leaves `data` out then."""
    metadata = {"namespace": OPTIONS.namespace, "name": OPTIONS.config_map}
    world.server.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    world.follow()
    eventually(lambda: world.said)
    assert "found no key at all" in world.said[0]["message"]


def test_a_deleted_config_map_leaves_the_defaults(world: World) -> None:
    """While the process runs and while none did; what was good is forgotten with it."""
    world.write(slots(3))
    world.follow()
    world.server.remove(world.server.objects("ConfigMap")[0])
    eventually(lambda: (world.slots, world.source) == (7, "Defaults"))
    world.restart()
    assert world.source == "Defaults"
    world.write(slots(3))
    world.follow()
    world.group.stop()
    world.group.join(10.0)
    world.server.remove(world.server.objects("ConfigMap")[0])
    world.restart()
    assert world.source == "LastGood"
    world.follow()
    assert (world.slots, world.source) == (7, "Defaults")
    assert list(world.state_dir.iterdir()) == []


def test_a_start_does_not_wait_for_ever() -> None:
    """Where the ConfigMap may not be read, what is known has to do; as soon as it may, it holds."""
    memory = Memory(Remembered(text=slots(3), labels={}))
    configuration = new(memory)
    with Group("g") as group:
        config_maps, nodes = group.event(), group.event()
        nodes.set()
        group.spawn("run", lambda: configuration.run(group, config_maps=config_maps, nodes=nodes))
        eventually(lambda: configuration.settled)
        assert card_slots(configuration) == 3
        config_maps.set()  # a list that finds nothing
        eventually(lambda: card_slots(configuration) == 7)
    assert memory.kept is None


def test_a_process_that_stops_settles_nothing_more() -> None:
    """A stop ends the wait for the first answer."""
    configuration = new(Memory(None), patience_s=60.0)
    with Group("g") as group:
        group.spawn("run", lambda: configuration.run(group, config_maps=group.event(), nodes=group.event()))
    assert card_slots(configuration) == 7


def test_a_full_disk_does_not_stop_a_change() -> None:
    """Only a restart would not know of it."""
    memory = Memory(None, full=True)
    configuration = new(memory)
    configuration.take({"metadata": {}, "data": {"config.yaml": slots(3)}})
    assert card_slots(configuration) == 3
    configuration.lose()
    assert card_slots(configuration) == 7


def test_what_another_release_left_is_not_trusted() -> None:
    """A configuration that this release does not understand is none; the node's labels are still its labels."""
    configuration = new(Memory(Remembered(text=WRONG, labels={"pool": "a"})))
    assert card_slots(configuration) == 7
    configuration.take({"metadata": {}, "data": {"config.yaml": slots(3, pool="a")}})
    assert card_slots(configuration) == 3


def test_what_does_not_change_tells_nobody(world: World) -> None:
    """Annotations of the ConfigMap and the heartbeat of the node are no news; a node that is gone keeps its labels."""
    world.write(slots(3, pool="a"))
    world.label({"pool": "a"})
    world.follow()
    eventually(lambda: world.server.open_watches == 2)
    (config_map,) = world.server.objects("ConfigMap")
    world.server.change(config_map | {"metadata": config_map["metadata"] | {"annotations": {"a": "b"}}})
    (node,) = world.server.objects("Node")
    world.server.change(node | {"status": {"conditions": []}})
    world.server.remove(world.server.objects("Node")[0])
    world.write(slots(4, pool="a"))
    eventually(lambda: world.heard == [3, 4])


class Memory:
    """What outlives a process, in memory."""

    def __init__(self, kept: Remembered | None, *, full: bool = False) -> None:
        self.kept = kept
        self._full = full

    def load(self) -> Remembered | None:
        """What there is."""
        return self.kept

    def save(self, remembered: Remembered) -> None:
        """Keep it, if there is room."""
        if self._full:
            raise NodeStateError("the disk is full")
        self.kept = remembered

    def forget(self) -> None:
        """Keep nothing."""
        if self._full:
            raise NodeStateError("the file system is read-only")
        self.kept = None


def new(memory: Memory, *, patience_s: float = 0.01) -> NodeConfiguration:
    """A configuration of nobody's Events."""
    return NodeConfiguration(
        key="config.yaml",
        base=CardSettings(slots=7),
        memory=memory,
        events=EventRecorder(FakeApiServer(), component="test"),
        metrics=ConfigMetrics(CollectorRegistry()),
        patience_s=patience_s,
    )


def card_slots(configuration: NodeConfiguration) -> int | None:
    """Of a card."""
    card = configuration.settings(inventory()).settings_for(gpu())
    return None if card is None else card.slots
