"""The node configuration on a real cluster: followed without a restart, refused with an Event, narrowed by labels."""

from collections.abc import Callable, Iterator, Mapping

import pytest
from e2e.support import Tenant, pod, share_template

from hacklib.deployment import KubeObject, Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CONFIG_MAP = "hami-dra-node"
HEAD = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\nentries:\n"
POOL = "e2e.hami.io/pool"

Write = Callable[[str], None]


@pytest.fixture
def write(site: Site) -> Iterator[Write]:
    """Writes the configuration; at the end the installed one is back, and so are the slices."""

    def put(text: str) -> None:
        site.system.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": {"config.yaml": text}}
        )

    installed = site.system.get("configmap", CONFIG_MAP)["data"]["config.yaml"]
    before = _capacities(site)
    yield put
    put(installed)
    site.kubectl.run("label", "nodes", "--all", f"{POOL}-")
    _wait(site, lambda: _capacities(site) == before, what="the slices of before")


def _capacities(site: Site) -> Mapping[str, list[Mapping[str, str]]]:
    """Memory and slots of each card, by node."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for published in site.slices():
        cards = found.setdefault(published["spec"]["nodeName"], [])
        for device in published["spec"].get("devices", []):
            cards.append({name: device["capacity"][name]["value"] for name in ("memory", "slots")})
    return found


def _slots(site: Site) -> list[list[int]]:
    """Of the cards of node-1 and of node-2."""
    found = _capacities(site)
    return [[int(card["slots"]) for card in found[node]] for node in ("node-1", "node-2")]


def _wait(site: Site, probe: Callable[[], object], *, what: str) -> None:
    wait_until(probe, what=what, deadline_s=45, detail=lambda: f"{_capacities(site)}\n{site.system_story()}")


def _plugins(site: Site) -> set[tuple[str, int]]:
    """Name and restarts of each node plugin."""
    pods = site.system.items("pods", "--selector=app.kubernetes.io/component=node")
    return {(item["metadata"]["name"], item["status"]["containerStatuses"][0]["restartCount"]) for item in pods}


def _faults(site: Site, said: str) -> list[KubeObject]:
    """Events on the ConfigMap that say that."""
    return site.system.events(
        about=lambda event: event["involvedObject"]["name"] == CONFIG_MAP and said in event["message"]
    )


def test_slices_follow_the_configuration_without_a_restart(site: Site, tenant: Tenant, write: Write) -> None:
    """Slots, scaling and exclusion are published within seconds, and who runs on a card does not notice."""
    plugins = _plugins(site)
    tenant.kubectl.apply(share_template("share", memory="1Gi"), pod("bystander", template="share", node=1))
    tenant.kubectl.wait_running("bystander")
    write(
        HEAD
        + "- {slots: 5}\n"
        + "- nodeSelector: {matchLabels: {kubernetes.io/hostname: node-1}}\n"
        + "  scaling: {memoryPercent: 150}\n"
        + "- nodeSelector: {matchLabels: {kubernetes.io/hostname: node-2}}\n"
        + "  devices: {indices: [1]}\n"
        + "  exclude: true\n"
    )
    _wait(site, lambda: _slots(site) == [[5], [5]], what="five slots, and one card of node-2")
    assert _capacities(site)["node-1"] == [{"memory": "120Gi", "slots": "5"}]
    assert tenant.kubectl.get("pod", "bystander")["status"]["phase"] == "Running"
    assert _plugins(site) == plugins


def test_labels_of_a_node_choose_its_entries(site: Site, write: Write) -> None:
    """An entry is for a node from the moment that it has the label, and no longer than that."""
    write(HEAD + f"- {{slots: 6}}\n- nodeSelector: {{matchLabels: {{{POOL}: few}}}}\n  slots: 2\n")
    _wait(site, lambda: _slots(site) == [[6], [6, 6]], what="six slots everywhere")
    site.kubectl.run("label", "node", "node-2", f"{POOL}=few")
    _wait(site, lambda: _slots(site) == [[6], [2, 2]], what="two slots on the labelled node")
    site.kubectl.run("label", "node", "node-2", f"{POOL}-")
    _wait(site, lambda: _slots(site) == [[6], [6, 6]], what="six slots everywhere again")


def test_a_wrong_configuration_is_refused_by_all_nodes_with_one_event(site: Site, write: Write) -> None:
    """What was in force stays, over a restart too, and the ConfigMap's Event names the field."""
    write(HEAD + "- {slots: 7}\n")
    _wait(site, lambda: _slots(site) == [[7], [7, 7]], what="seven slots everywhere")
    write(HEAD + "- {slots: 9}\n- {scaling: {memoryPercent: plenty}}\n")
    said = 'entries.1.scaling.memoryPercent: found "plenty"'
    _wait(site, lambda: _faults(site, said), what="an Event on the ConfigMap")
    (event,) = _faults(site, said)
    assert (event["type"], event["reason"]) == ("Warning", "InvalidConfig")
    before = site.node_plugin(1)
    site.system.delete("pod", before, now=True)
    _wait(site, lambda: site.node_plugin(1) != before, what="another node plugin")
    site.system.wait_running(site.node_plugin(1))
    _wait(
        site,
        lambda: any('"LastGood"' in line for line in site.system.logs(site.node_plugin(1))),
        what="the new plugin says that the last good one is in force",
    )
    assert _slots(site) == [[7], [7, 7]]
    assert len(_faults(site, said)) == 1
    write(HEAD + "- {slots: 8}\n")
    _wait(site, lambda: _slots(site) == [[8], [8, 8]], what="eight slots everywhere")
