"""The node configuration on a real cluster: followed without a restart, refused with an Event, narrowed by labels."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest
from e2e.kubernetes import has, record
from e2e.support import Tenant, pod

from hacklib.deployment import KubeObject, Site, wait_until
from hacklib.versions import Capability
from hami_dra.core.inventory import card_of

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
    """Capacities of each device, by node."""
    found: dict[str, list[Mapping[str, str]]] = {}
    for published in site.slices():
        cards = found.setdefault(published["spec"]["nodeName"], [])
        for device in published["spec"].get("devices", []):
            cards.append({name: capacity["value"] for name, capacity in device["capacity"].items()})
    return found


def _tenants(site: Site) -> list[list[int]]:
    """How many pods fit on each card of node-1 and of node-2."""
    found: dict[str, Counter[str]] = {"node-1": Counter(), "node-2": Counter()}
    for published in site.slices():
        for device in published["spec"].get("devices", []):
            slots = device["capacity"].get("slots", {}).get("value", "1")
            found[published["spec"]["nodeName"]][card_of(device["name"])] += int(slots)
    return [list(cards.values()) for cards in found.values()]


def _cut(site: Site, number: int) -> str:
    """The field that lets that many pods onto a card."""
    return f"slots: {number}" if has(site, Capability.SHARES) else f"fixedShares: {number}"


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


@pytest.mark.needs(Capability.SHARES)
def test_slices_follow_the_configuration_without_a_restart(site: Site, tenant: Tenant, write: Write) -> None:
    """Slots, scaling and exclusion are published within seconds, and who runs on a card does not notice."""
    plugins = _plugins(site)
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("bystander", template="share", node=1))
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
    _wait(site, lambda: _tenants(site) == [[5], [5]], what="five slots, and one card of node-2")
    assert _capacities(site)["node-1"] == [{"memory": "120Gi", "cores": "100", "slots": "5"}]
    assert tenant.kubectl.get("pod", "bystander")["status"]["phase"] == "Running"
    assert _plugins(site) == plugins


def test_labels_of_a_node_choose_its_entries(site: Site, write: Write) -> None:
    """An entry is for a node from the moment that it has the label, and no longer than that."""
    write(HEAD + f"- {{{_cut(site, 6)}}}\n- nodeSelector: {{matchLabels: {{{POOL}: few}}}}\n  {_cut(site, 2)}\n")
    _wait(site, lambda: _tenants(site) == [[6], [6, 6]], what="six slots everywhere")
    site.kubectl.run("label", "node", "node-2", f"{POOL}=few")
    _wait(site, lambda: _tenants(site) == [[6], [2, 2]], what="two slots on the labelled node")
    site.kubectl.run("label", "node", "node-2", f"{POOL}-")
    _wait(site, lambda: _tenants(site) == [[6], [6, 6]], what="six slots everywhere again")


def test_a_wrong_configuration_is_refused_by_all_nodes_with_one_event(site: Site, write: Write) -> None:
    """What was in force stays, over a restart too, and the ConfigMap's Event names the field."""
    write(HEAD + f"- {{{_cut(site, 7)}}}\n")
    _wait(site, lambda: _tenants(site) == [[7], [7, 7]], what="seven slots everywhere")
    write(HEAD + f"- {{{_cut(site, 9)}}}\n- {{scaling: {{memoryPercent: plenty}}}}\n")
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
    assert _tenants(site) == [[7], [7, 7]]
    assert len(_faults(site, said)) == 1
    write(HEAD + f"- {{{_cut(site, 8)}}}\n")
    _wait(site, lambda: _tenants(site) == [[8], [8, 8]], what="eight slots everywhere")


@pytest.mark.needs(Capability.SHARES)
def test_a_card_that_is_left_out_takes_nothing_new_and_is_there_again(site: Site, tenant: Tenant, write: Write) -> None:
    """Who runs on it runs on, without a slot left for others; the pod that waits for it comes in when it is offered again."""
    write(HEAD + "- {slots: 5}\n")
    _wait(site, lambda: _tenants(site) == [[5], [5, 5]], what="five slots everywhere")
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("steady", template="share", node=1))
    tenant.kubectl.wait_running("steady")
    closed = "- nodeSelector: {matchLabels: {kubernetes.io/hostname: node-1}}\n  exclude: true\n"
    write(HEAD + "- {slots: 5}\n" + closed)
    _wait(site, lambda: _tenants(site) == [[0], [5, 5]], what="the card of node-1 without a slot")
    tenant.kubectl.apply(pod("next", template="share", node=1))

    def refused() -> bool:
        conditions = tenant.kubectl.get("pod", "next")["status"].get("conditions", [])
        return [found["status"] for found in conditions if found["type"] == "PodScheduled"] == ["False"]

    _wait(site, refused, what="the scheduler finds no place for the next pod")
    assert tenant.kubectl.get("pod", "steady")["status"]["phase"] == "Running"
    write(HEAD + "- {slots: 5}\n")
    tenant.kubectl.wait_running("next")
    assert tenant.kubectl.get("pod", "steady")["status"]["containerStatuses"][0]["restartCount"] == 0


def _layout(site: Site) -> tuple[str, bool, int]:
    """How the card of node-1 is published: its mode, whether a device of it is shared, how many devices there are."""
    slices = [item["spec"] for item in site.slices() if item["spec"].get("nodeName") == "node-1"]
    found = [device for spec in slices for device in spec.get("devices", [])]
    modes = {device["attributes"]["mode"]["string"] for device in found}
    return "/".join(sorted(modes)), any(device.get("allowMultipleAllocations", False) for device in found), len(found)


@pytest.mark.parametrize("mode", ["Whole", "FixedShares", "Shares", "Partitions"])
def test_a_card_is_cut_into_the_richest_layout_that_is_kept(site: Site, write: Write, mode: str) -> None:
    """What a mode asks for and this API server drops becomes the next simpler layout, and nothing is published cut down."""
    shares, partitions = has(site, Capability.SHARES), has(site, Capability.PARTITIONS)
    simpler = "Shares" if shares else "FixedShares"
    expected = {
        "Whole": "Whole",
        "FixedShares": "FixedShares",
        "Shares": simpler,
        "Partitions": "Partitions" if partitions else simpler,
    }
    write(HEAD + f"- {{mode: {mode}, devices: {{indices: [0]}}}}\n")
    numbers = {"Whole": range(1, 2), "FixedShares": range(4, 5), "Shares": range(1, 2), "Partitions": range(5, 100)}

    def cut() -> bool:
        now, _, number = _layout(site)
        return now == expected[mode] and number in numbers[now]

    _wait(site, cut, what=f"mode {expected[mode]}")
    found, shared, number = _layout(site)
    assert not shared or found in {"Shares", "Partitions"}
    assert shared or found != "Shares"
    devices = "1 device" if number == 1 else f"{number} devices"
    record.layout(mode, f"`{found}`: {devices} a card{', each for many claims' if shared else ''}")
