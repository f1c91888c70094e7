"""A share from its claim to its end: what the claim says, what the node wrote, what any client in the pod sees."""

import json
from typing import Any

import pytest
from e2e.support import GIB, HOLD, PAUSE, NodeFiles, Tenant, eventually, pod

from hacklib.deployment import Site
from hacklib.versions import Capability

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NUMBA = """
import numpy
from numba import cuda

values = cuda.to_device(numpy.arange(1024))
print(int(values.copy_to_host().sum()))
print(cuda.get_current_device().name.decode())
print(cuda.current_context().get_memory_info().total >> 20)
try:
    cuda.device_array(3 << 30, dtype=numpy.uint8)
except cuda.cudadrv.driver.CudaAPIError as error:
    print(error)
"""
TRY = """
from cuda.bindings import driver as cuda

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
print(cuda.cuMemAlloc({gib} << 30)[0].name)
"""
LOOK = """
from cuda.bindings import driver as cuda
import signal

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
_, free, total = cuda.cuMemGetInfo()
print("free", free >> 20, total >> 20, flush=True)
signal.pause()
"""


def _contained(part: Any, whole: Any) -> bool:
    """Whether everything that `part` says is in `whole`."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and _contained(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(_contained(item, other) for other in whole) for item in part)
    return bool(part == whole)


@pytest.mark.needs(Capability.SHARES)
def test_slices_are_published_as_shares(site: Site) -> None:
    """Each card is one device that many claims can share, in a pool of its node's own."""
    slices = {item["spec"]["nodeName"]: item["spec"] for item in site.slices()}
    assert set(slices) == {"node-1", "node-2"}
    for node, spec in slices.items():
        assert spec["pool"]["name"] == f"{node}/gpu"
        cards = site.cards(int(node.removeprefix("node-")))
        assert [device["name"] for device in spec["devices"]] == [card.device for card in cards]
        for device, card in zip(spec["devices"], cards, strict=True):
            assert device["allowMultipleAllocations"] is True
            assert device["capacity"]["memory"]["value"] == f"{card.memory_bytes >> 30}Gi"
            assert device["capacity"]["cores"]["requestPolicy"]["default"] == "0"
            assert device["attributes"]["uuid"] == {"string": card.uuid}
            assert device["attributes"]["vendor"] == {"string": "nvidia"}
            assert device["attributes"]["simulated"] == {"bool": True}
            assert device["attributes"]["resource.kubernetes.io/pciBusID"] == {"string": card.pci}


@pytest.mark.older
def test_the_claim_says_what_the_node_did(site: Site, tenant: Tenant) -> None:
    """Both conditions come, and what the controller published is contained in the CDI file that the node wrote."""
    tenant.kubectl.apply(tenant.template("share", memory="4Gi", cores=5), pod("claimant", template="share", node=1))
    tenant.kubectl.wait_running("claimant")
    for kind in ("Ready", "Resolved"):
        assert tenant.wait_condition("claimant", kind)["status"] == "True"
    claim = tenant.claim_of("claimant")
    (published,) = claim["status"]["devices"]
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    assert published.get("shareID") == result.get("shareID")
    assert published["data"]["limits"]["memory"] == "4Gi"
    spec = NodeFiles(site, node=1).cdi_spec(claim["metadata"]["uid"])
    kind, _, name = published["data"]["cdiDevice"].partition("=")
    assert spec["kind"] == kind
    written = next(device for device in spec["devices"] if device["name"] == name)
    assert published["data"]["containerEdits"]["mounts"]
    assert _contained(published["data"]["containerEdits"], written["containerEdits"])
    name = claim["metadata"]["name"]
    fields = json.loads(tenant.kubectl.run("get", "resourceclaim", name, "-o", "json", "--show-managed-fields"))
    managers = {
        entry["manager"] for entry in fields["metadata"]["managedFields"] if entry.get("subresource") == "status"
    }
    assert {"hami-dra-node", "hami-dra-controller"} <= managers


@pytest.mark.needs(Capability.HEALTH)
def test_the_pod_says_how_its_device_is(tenant: Tenant) -> None:
    """Kubelet watches the plugin's health stream and shows the device's health in the pod's status (KEP-4680)."""
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("patient", template="share", node=1))
    tenant.kubectl.wait_running("patient")

    def health() -> list[str]:
        (container,) = tenant.kubectl.get("pod", "patient")["status"]["containerStatuses"]
        statuses = container.get("allocatedResourcesStatus", [])
        return [resource["health"] for status in statuses for resource in status["resources"]]

    eventually(lambda: health() == ["Healthy"], what="a healthy device in the pod's status")


@pytest.mark.older
def test_an_exec_is_inside_the_share(site: Site, tenant: Tenant) -> None:
    """A process that enters a running container is charged to the share like the container's own."""
    tenant.kubectl.apply(
        tenant.template("share", memory="4Gi"), pod("holder", template="share", script=HOLD.format(gib=2), node=1)
    )
    tenant.kubectl.wait_line("holder", "CUDA_SUCCESS")
    assert tenant.kubectl.python("holder", TRY.format(gib=3)) == "CUDA_ERROR_OUT_OF_MEMORY\n"
    assert tenant.kubectl.python("holder", TRY.format(gib=1)) == "CUDA_SUCCESS\n"
    (card,) = site.cards(1)
    assert 2 * GIB <= card.used_bytes < 3 * GIB
    assert card.peak_bytes <= card.memory_bytes


def test_a_tenant_cannot_change_its_limits(tenant: Tenant) -> None:
    """The limits file is read-only in the container, and no environment variable moves it."""
    tenant.kubectl.apply(tenant.template("share", memory="4Gi"), pod("tenant", template="share"))
    tenant.kubectl.wait_running("tenant")
    script = """
import glob, os
for path in (*glob.glob("/run/hami/*/limits"), "/etc/ld.so.preload", "/usr/local/hami/libhami_guard.so"):
    try:
        os.open(path, os.O_RDWR)
        print("open", path)
    except OSError as error:
        print(error.errno in (1, 13, 30))
"""
    assert tenant.kubectl.python("tenant", script) == "True\n" * 3
    moved = {"HAMI_SHARES_DIR": "/tmp", "LD_PRELOAD": "", "CUDA_DEVICE_MEMORY_LIMIT": "99g"}
    script = (
        f"import os, sys; os.execve(sys.executable, ['python3', '-c', {TRY.format(gib=5)!r}], os.environ | {moved})"
    )
    assert tenant.kubectl.python("tenant", script) == "CUDA_ERROR_OUT_OF_MEMORY\n"


def test_numba_works_in_a_share(tenant: Tenant) -> None:
    """A stock client copies to the card and back, sees its share as the card's memory, and hears of its end as ever."""
    tenant.kubectl.apply(tenant.template("share", memory="2Gi"), pod("numba", template="share", script=NUMBA + PAUSE))
    lines = tenant.kubectl.wait_line("numba", "[2]")
    assert lines[:3] == ["523776", "NVIDIA A100-SXM4-80GB", "2048"]
    assert "CUDA_ERROR_OUT_OF_MEMORY" in lines[3]


def test_a_killed_pod_gives_its_memory_back(site: Site, tenant: Tenant) -> None:
    """Nothing of a pod that was killed stays: not on the card, not on the node."""
    tenant.kubectl.apply(
        tenant.template("share", memory="4Gi"), pod("first", template="share", script=HOLD.format(gib=3), node=1)
    )
    tenant.kubectl.wait_line("first", "CUDA_SUCCESS")
    uid = tenant.claim_of("first")["metadata"]["uid"]
    files = NodeFiles(site, node=1)
    assert uid in files.prepared().everything
    assert site.cards(1)[0].used_bytes >= 3 * GIB
    tenant.kubectl.run("delete", "pod", "first", "--grace-period=0", "--force")
    eventually(lambda: site.cards(1)[0].used_bytes == 0, what="the card's memory free")
    eventually(lambda: uid not in files.prepared().everything, what="the node's files of the claim gone")
    tenant.kubectl.apply(pod("second", template="share", script=HOLD.format(gib=3), node=1))
    assert tenant.kubectl.wait_line("second", "CUDA_") == ["CUDA_SUCCESS"]


@pytest.mark.needs(Capability.SHARES, Capability.ADMIN_ACCESS)
def test_a_monitor_sees_the_card_and_takes_nothing_of_it(site: Site, tenant: Tenant) -> None:
    """A pod with admin access has the whole card in view, what others hold included; its room can be had all the same."""
    namespace = tenant.kubectl.namespace
    tenant.kubectl.run("label", "namespace", namespace, "resource.kubernetes.io/admin-access=true")
    monitor = tenant.template("monitor", memory="1Mi", cores=0)
    monitor["spec"]["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] = True
    tenant.kubectl.apply(
        monitor,
        tenant.template("share", memory="4Gi"),
        tenant.template("rest", memory="76Gi"),
        pod("holder", template="share", script=HOLD.format(gib=2), node=1),
    )
    tenant.kubectl.wait_line("holder", "CUDA_SUCCESS")
    tenant.kubectl.apply(pod("monitor", template="monitor", script=LOOK, node=1))
    free, total = map(int, tenant.kubectl.wait_line("monitor", "free ")[-1].split()[1:])
    assert total == site.cards(1)[0].memory_bytes >> 20
    assert total - free >= 2 << 10
    tenant.kubectl.apply(pod("late", template="rest", node=1))
    tenant.kubectl.wait_running("late")
    uid = tenant.claim_of("monitor")["metadata"]["uid"]
    prepared = NodeFiles(site, node=1).prepared()
    assert (prepared.shares[uid], prepared.ledger[uid]) == (0, "Completed")


@pytest.mark.needs(Capability.SHARES)
def test_a_full_card_keeps_the_next_pod_waiting(tenant: Tenant) -> None:
    """The scheduler counts what is allocated: a pod waits for room and gets it when another leaves."""
    tenant.kubectl.apply(
        tenant.template("most", memory="60Gi"),
        pod("first", template="most", node=1),
        pod("next", template="most", node=1),
    )

    def phases() -> dict[str, str]:
        return {item["metadata"]["name"]: item["status"]["phase"] for item in tenant.kubectl.items("pods")}

    eventually(lambda: sorted(phases().values()) == ["Pending", "Running"], what="one runs, one waits", detail=phases)
    running = next(name for name, phase in phases().items() if phase == "Running")
    tenant.kubectl.delete("pod", running, now=True)
    eventually(lambda: list(phases().values()) == ["Running"], what="the other one runs", detail=phases)
