"""Kubernetes 1.34: with DRAConsumableCapacity cards are shared; without it they are cut into fixed shares, as the log says."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from e2e.support import EXAMPLES, HOLD, Tenant, eventually, pod, share_template
from e2e.test_doctor import diagnose

from hacklib.checks import leftovers
from hacklib.cluster.spec import ClusterSpec
from hacklib.deployment import Site
from hacklib.deployment.simulated import simctl
from hacklib.ui import Ui
from hami_dra.api.names import CONFIG_API_VERSION, CONFIG_KIND, DRIVER
from hami_dra.core.inventory import card_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def _site(name: str, gates: Mapping[str, bool]) -> Site:
    return Site.up(name=f"{name}-{os.getpid()}", cards=[[("A100", 2)]], kubernetes="1.34", feature_gates=gates, ui=Ui())


@pytest.fixture(scope="module")
def sharing() -> Iterator[Site]:
    """1.34 with the gate on."""
    with _site("e2e-134-on", {"DRAConsumableCapacity": True}) as site:
        site.install()
        yield site


@pytest.fixture(scope="module")
def plain() -> Iterator[Site]:
    """1.34 as it comes."""
    with _site("e2e-134-off", {}) as site:
        site.install()
        yield site


@pytest.fixture
def brief() -> Iterator[Site]:
    """1.34 as it comes, for one test that ends it."""
    with _site("e2e-134-end", {}) as site:
        site.install()
        yield site


def test_1_34_with_the_gate_shares_a_card(sharing: Site) -> None:
    """Two pods share a card by their limits, and each claim says what it got."""
    assert sharing.slices()[0]["spec"]["devices"][0]["allowMultipleAllocations"] is True
    with Tenant.of(sharing, name="sharing") as tenant:
        tenant.kubectl.apply(EXAMPLES / "02-two-pods-one-card.yaml")
        greedy = tenant.kubectl.wait_line("greedy", "20 GiB")
        steady = tenant.kubectl.wait_line("steady", "round 3")
        assert greedy[0] == steady[0] == "CUDA sees 16384 MiB"
        assert greedy[-1] == "20 GiB: CUDA_ERROR_OUT_OF_MEMORY"
        assert {line.split(": ")[1] for line in steady[2:]} == {"CUDA_SUCCESS"}
        for kind in ("Ready", "Resolved"):
            tenant.wait_condition("steady", kind)


def test_1_34_without_the_gate_publishes_fixed_shares(plain: Site) -> None:
    """Closed gates are noticed, each card is cut into equal parts, and a warning names the gate that would change it."""
    (published,) = plain.slices()
    assert len(published["spec"]["devices"]) == 8
    for device in published["spec"]["devices"]:
        assert "allowMultipleAllocations" not in device
        assert device["attributes"]["mode"] == {"string": "FixedShares"}
        assert device["capacity"] == {"memory": {"value": "20Gi"}, "cores": {"value": "25"}}
    warnings = [line for line in plain.system.logs(plain.node_plugin(1)) if '"warning"' in line.lower()]
    assert any("DRAConsumableCapacity" in line for line in warnings), warnings


def test_1_34_without_the_gate_the_doctor_says_what_that_costs(plain: Site) -> None:
    """Which gates are closed, what to open, and into what cards of each mode are cut; none of it is a problem."""
    status, findings = diagnose(plain)
    assert status == 0
    gates = {each["found"]: each["advice"] for each in findings if each["check"] == "feature-gates"}
    assert len(gates) == 3
    assert any("DRAConsumableCapacity: cards are cut into fixed shares" in found for found in gates)
    assert any("--feature-gates=DRAConsumableCapacity=true" in advice for advice in gates.values())
    layouts = [each["found"] for each in findings if each["check"] == "layouts"]
    assert "a card of mode Shares is published as 4 equal devices, because DRAConsumableCapacity is closed" in layouts


def test_1_34_without_the_gate_shares_a_card_in_equal_parts(plain: Site) -> None:
    """Eight claims share the two cards, each held to its part or to less, and a ninth waits."""
    less = share_template("less")
    parameters = {"apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND, "limits": {"memory": "8Gi"}}
    less["spec"]["spec"]["devices"]["config"] = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
    with Tenant.of(plain, name="fixed") as tenant:
        tenant.example("05-whole-card")
        assert tenant.kubectl.wait_line("whole-card", "CUDA sees") == ["CUDA sees 20480 MiB"]
        tenant.kubectl.apply(less, pod("less", template="less", script=HOLD.format(gib=9)))
        assert tenant.kubectl.wait_line("less", "CUDA_") == ["CUDA_ERROR_OUT_OF_MEMORY"]
        pods = (pod(f"part-{number}", template="part") for number in range(7))
        tenant.kubectl.apply(share_template("part"), *pods)

        def phases() -> list[str]:
            return sorted(item["status"]["phase"] for item in tenant.kubectl.items("pods"))

        eventually(lambda: phases() == ["Pending", *["Running"] * 8], what="eight run, one waits", detail=phases)
        assert tenant.wait_condition("whole-card", "Ready")["status"] == "True"


def test_1_34_without_the_gate_withdraws_a_card_that_is_lost(plain: Site) -> None:
    """The API server drops the taint: the device goes, is said to be why, and comes back with the card."""
    root, lost = str(plain.driver_root(1)), plain.cards(1)[1].device

    def published() -> list[str]:
        return [device["name"] for item in plain.slices() for device in item["spec"].get("devices", [])]

    both = published()
    parts = {name for name in both if card_of(name) == lost}
    assert len(parts) == 4
    simctl("lose", "--root", root, "--card", "1")
    try:
        eventually(lambda: not parts & set(published()), what="the lost card is withdrawn", detail=published)
        assert set(published()) == set(both) - parts
    finally:
        simctl("restore", "--root", root, "--card", "1")
    eventually(lambda: set(published()) == set(both), what="the card is back", deadline_s=60, detail=published)


def _processes_of(spec: ClusterSpec) -> list[int]:
    """Processes of a cluster: told by its folder in their arguments, or by its cgroup."""

    def ours(process: Path) -> bool:
        try:
            words, cgroup = (process / "cmdline").read_bytes(), (process / "cgroup").read_text(encoding="utf-8")
        except OSError:
            return False
        return str(spec.folder).encode() in words or spec.cgroup in cgroup

    return [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit() and ours(process)]


def test_a_cluster_leaves_nothing_behind(brief: Site) -> None:
    """With tenants, claims and the product in it, a cluster that goes takes every process, mount and cgroup along."""
    tenant = Tenant.of(brief, name="left")
    tenant.kubectl.apply(share_template("card"), pod("left", template="card"))
    tenant.kubectl.wait_running("left")
    spec = brief.cluster.spec
    assert _processes_of(spec)
    assert any(spec.cgroup in line for line in leftovers.snapshot())
    brief.cluster.down()
    assert _processes_of(spec) == []
    assert [line for line in leftovers.snapshot() if str(spec.folder) in line or spec.cgroup in line] == []
    assert not spec.folder.exists()
