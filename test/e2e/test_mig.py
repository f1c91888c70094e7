"""Cards in mode Partitions on a real cluster: cut where the scheduler decided, joined again, whatever happens in between."""

import os
import random
import signal
from collections.abc import Iterator, Sequence

import pytest
from e2e.kubernetes import applies, here
from e2e.support import Tenant, all_run, eventually, plugin_processes, pod, share_template

from hacklib.deployment import Card, KubeObject, Site, wait_until
from hacklib.deployment.simulated import simctl
from hacklib.ui import Ui
from hacklib.versions import Capability
from hami_dra.core.inventory import parse_partition

pytestmark = [pytest.mark.cluster, pytest.mark.apart, pytest.mark.timeout(600)]

MODELS = {1: "A100", 2: "H100"}
SLICES = {"1g.10gb": 1, "2g.20gb": 2, "3g.40gb": 4}
REPORT = """
from cuda.bindings import driver as cuda
import signal

cuda.cuInit(0)
device = cuda.cuDeviceGet(0)[1]
name = cuda.cuDeviceGetName(96, device)[1].split(bytes(1))[0].decode()
print(f"{name.split()[-1]}: {cuda.cuDeviceTotalMem(device)[1] >> 20} MiB", flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A node with an A100 and one with an H100, both in mode Partitions; no card is in MIG mode yet."""
    cards = [[(model, 1)] for model in MODELS.values()]
    with here().running(name="e2e-mig", cards=cards, ui=Ui()) as site:
        applies(site, Capability.PARTITIONS)
        site.install(values={"node": {"config": {"entries": [{"mode": "Partitions"}]}}})
        wait_until(lambda: all(_offered(site, node) > 1 for node in MODELS), what="partitions in the slices")
        yield site


@pytest.fixture
def tenant(site: Site, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A namespace with a template for each profile; after the test no card has an instance."""
    with Tenant.of(site, name=request.node.name) as tenant:
        tenant.kubectl.apply(*(_template(profile) for profile in SLICES), share_template("any"))
        yield tenant
    eventually(lambda: not any(_card(site, node).partitions for node in MODELS), what="no instance left", deadline_s=60)


def _template(profile: str) -> KubeObject:
    template = share_template(_name(profile))
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    expression = f'device.attributes["gpu.hami.io"].?migProfile.orValue("") == "{profile}"'
    request["exactly"] |= {"selectors": [{"cel": {"expression": expression}}]}
    return template


def _name(profile: str) -> str:
    return profile.replace(".", "-")


def _pods(node: int, profiles: Sequence[str], *, script: str = REPORT) -> dict[str, KubeObject]:
    """A pod on that node for each of the profiles, by name."""
    return {
        f"{index}-{_name(profile)}": pod(f"{index}-{_name(profile)}", template=_name(profile), script=script, node=node)
        for index, profile in enumerate(profiles)
    }


def _card(site: Site, node: int) -> Card:
    (card,) = site.cards(node)
    return card


def _offered(site: Site, node: int) -> int:
    """How many devices the node's slices show."""
    return sum(
        len(item["spec"].get("devices", [])) for item in site.slices() if item["spec"].get("nodeName") == f"node-{node}"
    )


def _allocated(tenant: Tenant, node: int) -> list[tuple[str, int]]:
    """The partitions of that node that claims of the tenant hold."""
    results = [
        result
        for claim in tenant.claims()
        for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
        if result["pool"] == f"node-{node}/gpu"
    ]
    places = [parse_partition(result["device"]) for result in results]
    return sorted((place.profile, place.start) for place in places if place is not None)


def _lie_apart(partitions: Sequence[tuple[str, int]]) -> bool:
    taken = [place for profile, start in partitions for place in range(start, start + SLICES[profile])]
    return len(taken) == len(set(taken))


def test_example_12_mig(site: Site, tenant: Tenant) -> None:
    """Each of the three pods sees its partition and nothing else."""
    tenant.kubectl.run("delete", "resourceclaimtemplates", "--all")
    tenant.example("12-mig")
    profiles = {"mig-1g": "MIG 1g.10gb: 9", "mig-2g": "MIG 2g.20gb: ", "mig-3g": "MIG 3g.40gb: 40"}
    for name, words in profiles.items():
        (line,) = tenant.kubectl.wait_line(name, "NVIDIA")
        assert words in line
        assert line.endswith(" MiB")
    cut = [partition for node in MODELS for partition in _card(site, node).partitions]
    assert sorted(profile for profile, _ in cut) == sorted(SLICES)


@pytest.mark.parametrize("node", MODELS, ids=MODELS.values())
def test_a_card_is_filled_without_overlap(site: Site, tenant: Tenant, node: int) -> None:
    """Partitions of three profiles fill the card; the next pod waits, and runs when another one has made room."""
    pods = _pods(node, ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"])
    for name, each in pods.items():
        tenant.kubectl.apply(each)
        profile = name.split("-", 1)[1].replace("-", ".")
        tenant.kubectl.wait_line(name, f"{profile}: ")
    card = _card(site, node)
    assert card.in_mig_mode
    assert list(card.partitions) == _allocated(tenant, node)
    assert sorted(profile for profile, _ in card.partitions) == ["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"]
    assert _lie_apart(card.partitions)
    tenant.kubectl.apply(pod("late", template=_name("2g.20gb"), script=REPORT, node=node))
    wait_until(lambda: tenant.events_of("late", reason="FailedScheduling"), what="FailedScheduling")
    assert tenant.kubectl.get("pod", "late")["status"]["phase"] == "Pending"
    tenant.kubectl.run("delete", "pod", "1-2g-20gb", "--grace-period=1", timeout_s=60)
    all_run(tenant, ["late"])
    assert list(_card(site, node).partitions) == _allocated(tenant, node)


def test_a_whole_card_after_partitions(site: Site, tenant: Tenant) -> None:
    """The card leaves MIG mode for the claim that takes it as one device."""
    tenant.kubectl.apply(*_pods(1, ["1g.10gb"]).values())
    tenant.kubectl.wait_line("0-1g-10gb", "1g.10gb: ")
    tenant.kubectl.run("delete", "pod", "0-1g-10gb", "--grace-period=1", timeout_s=60)
    whole = share_template("whole")
    (request,) = whole["spec"]["spec"]["devices"]["requests"]
    request["exactly"] |= {"selectors": [{"cel": {"expression": 'device.attributes["gpu.hami.io"].type == "gpu"'}}]}
    tenant.kubectl.apply(whole, pod("whole", template="whole", script=REPORT, node=1))
    assert tenant.kubectl.wait_line("whole", "A100") == ["A100-SXM4-80GB: 81920 MiB"]
    assert not _card(site, 1).in_mig_mode


def test_kill_9_while_cards_are_cut(site: Site, tenant: Tenant) -> None:
    """Killed while pods come and go, the plugin ends with exactly the instances that claims hold."""
    dice = random.Random(5)  # noqa: S311 - moments, not secrets
    for round_number in range(2):
        pods = _pods(2, ["3g.40gb", "1g.10gb", "1g.10gb", "2g.20gb"])
        tenant.kubectl.apply(*pods.values())
        wait_until(lambda: _card(site, 2).partitions, what="a partition was made", deadline_s=60)
        for _ in range(dice.randrange(3)):
            _card(site, 2)  # a look takes a few milliseconds
        (process,) = plugin_processes(site, node=2)
        os.kill(process, signal.SIGKILL)
        if round_number:  # a third container in a row would have to wait for kubelet's back-off: a new pod has not
            site.system.delete("pod", site.node_plugin(2), now=True)
        all_run(tenant, pods.keys())
        eventually(
            lambda: list(_card(site, 2).partitions) == _allocated(tenant, 2), what="the instances that claims hold"
        )
        assert len(_card(site, 2).partitions) == len(pods)
        tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=120)
        eventually(lambda: not _card(site, 2).partitions, what="all instances gone", deadline_s=60)


def test_an_administrators_instances_are_offered_as_found(site: Site, tenant: Tenant) -> None:
    """An instance that somebody made is what the card offers, is used, and stays when the pod has gone."""
    root = site.driver_root(1)
    simctl("mig", "enable", "--root", str(root))
    simctl("mig", "create", "--root", str(root), "--profile", "2g.20gb", "--start", "2")
    try:
        site.system.run("rollout", "restart", "daemonset/hami-dra-node")
        wait_until(lambda: _offered(site, 1) == 1, what="the instance alone is offered", deadline_s=120)
        tenant.kubectl.apply(*_pods(1, ["2g.20gb"]).values())
        assert tenant.kubectl.wait_line("0-2g-20gb", "2g.20gb: ") == ["2g.20gb: 19968 MiB"]
        tenant.kubectl.run("delete", "pod", "0-2g-20gb", "--grace-period=1", timeout_s=60)
        eventually(lambda: not _allocated(tenant, 1), what="the claim is gone")
        assert _card(site, 1).partitions == (("2g.20gb", 2),)
    finally:
        simctl("mig", "destroy", "--root", str(root))
    site.system.run("rollout", "restart", "daemonset/hami-dra-node")
    wait_until(lambda: _offered(site, 1) > 1, what="partitions are offered again", deadline_s=120)
