"""Composes what follows the node configuration: two reflectors, the memory in the state directory, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra.host.last_config import LastConfig
from hami_dra.kube.config_maps import config_map_collection, data_of_config_map
from hami_dra.kube.nodes import labels_of_node, node_collection
from hami_dra.kube.reflector import Reflector
from hami_dra.node.config_metrics import ConfigMetrics
from hami_dra.node.configuration import ConfigMapHandler, NodeConfiguration, NodeHandler

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from hami_dra._lib.threads import Group
    from hami_dra.core.ids import NodeName
    from hami_dra.core.settings import CardSettings
    from hami_dra.kube.transport import Transport
    from hami_dra.node.ports import EventSink

__all__ = ["ConfigOptions", "follow_node_config", "new_node_config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigOptions:
    """Where the node configuration lies."""

    namespace: str
    config_map: str
    key: str


def new_node_config(
    options: ConfigOptions,
    *,
    base: CardSettings,
    state_dir: Path,
    events: EventSink,
    registry: CollectorRegistry,
) -> NodeConfiguration:
    """What was in force last, until `follow_node_config`."""
    return NodeConfiguration(
        key=options.key,
        base=base,
        memory=LastConfig(state_dir / "node-config.json"),
        events=events,
        metrics=ConfigMetrics(registry),
    )


def follow_node_config(
    group: Group, options: ConfigOptions, *, node: NodeName, transport: Transport, configuration: NodeConfiguration
) -> None:
    """Keep it what ConfigMap and Node say, in threads of `group`."""
    config_maps = Reflector(
        transport,
        config_map_collection(namespace=options.namespace, name=options.config_map),
        ConfigMapHandler(configuration),
        keep=data_of_config_map,
    ).start(group, name="config-map")
    nodes = Reflector(transport, node_collection(node), NodeHandler(configuration), keep=labels_of_node).start(
        group, name="node-labels"
    )
    group.spawn("node-config", lambda: configuration.run(group, config_maps=config_maps, nodes=nodes))
