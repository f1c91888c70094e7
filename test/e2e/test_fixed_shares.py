"""Where an API server keeps no shares, cards are cut into equal parts: node-1's into twenty, node-2's into four."""

import pytest
from e2e.support import HOLD, PAUSE, Tenant, eventually, pod
from e2e.test_doctor import diagnose

from hacklib.deployment import Site
from hacklib.deployment.simulated import simctl
from hacklib.versions import Capability
from hami_dra.core.inventory import card_of

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.older,
    pytest.mark.timeout(600),
    pytest.mark.lacks(Capability.SHARES),
]

SEES = """
from cuda.bindings import driver as cuda

cuda.cuInit(0)
print("sees", cuda.cuDeviceTotalMem(cuda.cuDeviceGet(0)[1])[1] >> 20, flush=True)
"""


def _published(site: Site, node: int) -> list[str]:
    """Names of the devices of a node."""
    slices = [item["spec"] for item in site.slices() if item["spec"].get("nodeName") == f"node-{node}"]
    return [device["name"] for spec in slices for device in spec.get("devices", [])]


def test_cards_are_published_in_equal_parts(site: Site) -> None:
    """Closed gates are noticed, each card is cut as the configuration says, and a warning names the gate that would change it."""
    slices = {item["spec"]["nodeName"]: item["spec"]["devices"] for item in site.slices()}
    assert {node: len(devices) for node, devices in slices.items()} == {"node-1": 20, "node-2": 8}
    sizes = {"node-1": ("4Gi", "5"), "node-2": ("20Gi", "25")}
    for node, devices in slices.items():
        for device in devices:
            assert "allowMultipleAllocations" not in device
            assert device["attributes"]["mode"] == {"string": "FixedShares"}
            memory, cores = sizes[node]
            assert device["capacity"] == {"memory": {"value": memory}, "cores": {"value": cores}}
    warnings = [line for line in site.system.logs(site.node_plugin(1)) if '"warning"' in line.lower()]
    assert any("DRAConsumableCapacity" in line for line in warnings), warnings


def test_cards_are_shared_in_equal_parts(tenant: Tenant) -> None:
    """Eight claims share two cards, each held to its part or to less, and a ninth waits."""
    tenant.kubectl.apply(
        tenant.template("part"),
        tenant.template("less", memory="8Gi"),
        pod("seer", template="part", script=SEES + PAUSE, node=2),
        pod("less", template="less", script=HOLD.format(gib=9), node=2),
    )
    assert tenant.kubectl.wait_line("seer", "sees") == ["sees 20480"]
    assert tenant.kubectl.wait_line("less", "CUDA_") == ["CUDA_ERROR_OUT_OF_MEMORY"]
    tenant.kubectl.apply(*(pod(f"part-{number}", template="part", node=2) for number in range(7)))

    def phases() -> list[str]:
        return sorted(item["status"]["phase"] for item in tenant.kubectl.items("pods"))

    eventually(lambda: phases() == ["Pending", *["Running"] * 8], what="eight run, one waits", detail=phases)
    assert tenant.wait_condition("seer", "Ready")["status"] == "True"


def test_example_13_fixed_share(tenant: Tenant) -> None:
    """The pod is held to what its GpuConfig says, which is less than its part of the card."""
    tenant.example("13-fixed-share")
    lines = tenant.kubectl.wait_line("fixed-share", "4 GiB: CUDA_ERROR")
    assert lines == ["CUDA sees 3072 MiB", "2 GiB: CUDA_SUCCESS", "4 GiB: CUDA_ERROR_OUT_OF_MEMORY"]


@pytest.mark.lacks(Capability.PARTITIONS, Capability.TAINTS)
def test_the_doctor_says_what_closed_gates_cost(site: Site) -> None:
    """Which gates are closed, what to open, and into what cards of each mode are cut; none of it is a problem."""
    status, findings = diagnose(site)
    assert status == 0
    gates = {each["found"]: each["advice"] for each in findings if each["check"] == "feature-gates"}
    assert len(gates) == 3
    assert any("DRAConsumableCapacity: cards are cut into fixed shares" in found for found in gates)
    assert any("--feature-gates=DRAConsumableCapacity=true" in advice for advice in gates.values())
    layouts = [each["found"] for each in findings if each["check"] == "layouts"]
    words = ("a card of mode Shares is published as ", " equal devices, because DRAConsumableCapacity is closed")
    assert any(all(word in found for word in words) for found in layouts), layouts


@pytest.mark.lacks(Capability.TAINTS)
def test_a_card_that_is_lost_is_withdrawn(site: Site) -> None:
    """The API server drops the taint: the parts of the card go, nobody else's do, and they come back with the card."""
    root, lost = str(site.driver_root(2)), site.cards(2)[1].device
    both = _published(site, 2)
    parts = {name for name in both if card_of(name) == lost}
    assert len(parts) == 4
    simctl("lose", "--root", root, "--card", "1")
    try:
        eventually(lambda: not parts & set(_published(site, 2)), what="the lost card is withdrawn")
        assert set(_published(site, 2)) == set(both) - parts
    finally:
        simctl("restore", "--root", root, "--card", "1")
    eventually(lambda: set(_published(site, 2)) == set(both), what="the card is back", deadline_s=60)
