"""One ConfigMap and one Node, followed by name: the fake API server and a real one do the same."""

from collections.abc import Callable
from pathlib import Path

from contract.api_servers import Api
from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject
from hami_dra.app.node_config import ConfigOptions, follow_node_config, new_node_config
from hami_dra.core.ids import NodeName
from hami_dra.core.settings import CardSettings
from hami_dra.kube.events import EventRecorder
from hami_dra.kube.transport import MERGE_PATCH
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import gpu, inventory

HEAD = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\nentries:\n"
NODE = NodeName("followed")
NODE_PATH = f"/api/v1/nodes/{NODE}"


def config_map(name: str, text: str) -> JsonObject:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"config.yaml": text}}


def slots_of(api: Api, group: Group, state_dir: Path) -> Callable[[], int]:
    """What a node plugin makes of ConfigMap `ours`: the slots of a card, as they are now."""
    options = ConfigOptions(namespace=api.namespace, config_map="ours", key="config.yaml")
    events = EventRecorder(api.transport, component="contract", host=NODE)
    configuration = new_node_config(
        options, base=CardSettings(slots=7), state_dir=state_dir, events=events, registry=CollectorRegistry()
    )
    events.start(group)
    follow_node_config(group, options, node=NODE, transport=api.transport, configuration=configuration)
    eventually(lambda: configuration.settled)

    def slots() -> int:
        card = configuration.settings(inventory()).settings_for(gpu())
        assert card is not None
        return card.slots

    return slots


def test_a_configuration_is_followed_by_the_names_of_its_config_map_and_node(api: Api, tmp_path: Path) -> None:
    """Others beside them are not seen; labels, changes, faults and the end of the ConfigMap are."""
    path = f"/api/v1/namespaces/{api.namespace}/configmaps"
    api.send("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    try:
        with Group("follow") as group:
            api.send("POST", path, config_map("other", HEAD + "- slots: 2\n"))
            slots = slots_of(api, group, tmp_path)
            assert slots() == 7
            api.send("POST", path, config_map("ours", HEAD + "- nodeSelector: {matchLabels: {a: b}}\n  slots: 3\n"))
            patch = {"metadata": {"labels": {"a": "b"}}}
            api.send("PATCH", NODE_PATH, patch, content_type=MERGE_PATCH)
            eventually(lambda: slots() == 3)
            api.send("PUT", f"{path}/ours", config_map("ours", HEAD + "- slots: 0\n"))
            events = f"/api/v1/namespaces/{api.namespace}/events"
            eventually(lambda: api.send("GET", events)["items"])
            (event,) = api.send("GET", events)["items"]
            assert event["involvedObject"]["name"] == "ours"
            assert "entries.0.slots: found 0" in event["message"]
            assert slots() == 3
            api.send("DELETE", f"{path}/ours")
            eventually(lambda: slots() == 7)
    finally:
        api.send("DELETE", NODE_PATH)
