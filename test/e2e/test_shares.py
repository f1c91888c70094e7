"""A share from its claim to its end: what the claim says, what the node wrote, what any client in the pod sees."""

from typing import Any

import pytest
from e2e.support import GIB, HOLD, NodeFiles, Tenant, eventually, pod, share_template

from hacklib.deployment import Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NUMBA = """
import numpy
from numba import cuda

@cuda.jit
def add_one(values):
    values[cuda.grid(1)] += 1

values = cuda.to_device(numpy.zeros(1024, dtype=numpy.float32))
add_one[4, 256](values)
cuda.synchronize()
values.copy_to_host()
print(cuda.get_current_device().name.decode())
print(cuda.current_context().get_memory_info().total >> 20)
"""
TRY = """
from cuda.bindings import driver as cuda

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
print(cuda.cuMemAlloc({gib} << 30)[0].name)
"""


def _contained(part: Any, whole: Any) -> bool:
    """Whether everything that `part` says is in `whole`."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and _contained(part[name], whole[name]) for name in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(_contained(item, other) for other in whole) for item in part)
    return bool(part == whole)


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


def test_the_claim_says_what_the_node_did(site: Site, tenant: Tenant) -> None:
    """Both conditions come, and what the controller published is contained in the CDI file that the node wrote."""
    tenant.kubectl.apply(share_template("share", memory="16Gi", cores=30), pod("claimant", template="share", node=1))
    tenant.kubectl.wait_running("claimant")
    for kind in ("Ready", "Resolved"):
        assert tenant.wait_condition("claimant", kind)["status"] == "True"
    claim = tenant.claim_of("claimant")
    (published,) = claim["status"]["devices"]
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    assert published["shareID"] == result["shareID"]
    assert published["data"]["limits"]["memory"] == "16Gi"
    spec = NodeFiles(site, node=1).cdi_spec(claim["metadata"]["uid"])
    kind, _, name = published["data"]["cdiDevice"].partition("=")
    assert spec["kind"] == kind
    written = next(device for device in spec["devices"] if device["name"] == name)
    assert published["data"]["containerEdits"]["mounts"]
    assert _contained(published["data"]["containerEdits"], written["containerEdits"])
    managers = {
        entry["manager"] for entry in claim["metadata"]["managedFields"] if entry.get("subresource") == "status"
    }
    assert {"hami-dra-node", "hami-dra-controller"} <= managers


def test_an_exec_is_inside_the_share(site: Site, tenant: Tenant) -> None:
    """A process that enters a running container is charged to the share like the container's own."""
    tenant.kubectl.apply(
        share_template("share", memory="8Gi"), pod("holder", template="share", script=HOLD.format(gib=6), node=1)
    )
    tenant.kubectl.wait_line("holder", "CUDA_SUCCESS")
    assert tenant.kubectl.python("holder", TRY.format(gib=4)) == "CUDA_ERROR_OUT_OF_MEMORY\n"
    assert tenant.kubectl.python("holder", TRY.format(gib=1)) == "CUDA_SUCCESS\n"
    (card,) = site.cards(1)
    assert 6 * GIB <= card.used_bytes < 7 * GIB
    assert card.peak_bytes <= card.memory_bytes


def test_a_tenant_cannot_change_its_limits(tenant: Tenant) -> None:
    """The limits file is read-only in the container, and no environment variable moves it."""
    tenant.kubectl.apply(share_template("share", memory="4Gi"), pod("tenant", template="share"))
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


def test_numba_runs_a_kernel_in_a_share(tenant: Tenant) -> None:
    """A stock client compiles and launches a kernel, and sees its share as the card's memory."""
    script = NUMBA
    tenant.kubectl.apply(share_template("share", memory="2Gi", cores=50), pod("numba", template="share", script=script))
    wait_until(
        lambda: tenant.kubectl.get("pod", "numba")["status"]["phase"] in {"Succeeded", "Failed"}, what="numba's end"
    )
    lines = tenant.kubectl.logs("numba")
    assert lines[-2:] == ["NVIDIA A100-SXM4-80GB", "2048"], lines


def test_a_killed_pod_gives_its_memory_back(site: Site, tenant: Tenant) -> None:
    """Nothing of a pod that was killed stays: not on the card, not on the node."""
    tenant.kubectl.apply(
        share_template("share", memory="60Gi"), pod("first", template="share", script=HOLD.format(gib=50), node=1)
    )
    tenant.kubectl.wait_line("first", "CUDA_SUCCESS")
    uid = tenant.claim_of("first")["metadata"]["uid"]
    files = NodeFiles(site, node=1)
    assert uid in files.prepared().everything
    assert site.cards(1)[0].used_bytes >= 50 * GIB
    tenant.kubectl.run("delete", "pod", "first", "--grace-period=0", "--force")
    eventually(lambda: site.cards(1)[0].used_bytes == 0, what="the card's memory free")
    eventually(lambda: uid not in files.prepared().everything, what="the node's files of the claim gone")
    tenant.kubectl.apply(pod("second", template="share", script=HOLD.format(gib=50), node=1))
    assert tenant.kubectl.wait_line("second", "CUDA_") == ["CUDA_SUCCESS"]


def test_a_full_card_keeps_the_next_pod_waiting(tenant: Tenant) -> None:
    """The scheduler counts what is allocated: a pod waits for room and gets it when another leaves."""
    tenant.kubectl.apply(
        share_template("most", memory="60Gi"),
        pod("first", template="most", node=1),
        pod("next", template="most", node=1),
    )

    def phases() -> dict[str, str]:
        return {item["metadata"]["name"]: item["status"]["phase"] for item in tenant.kubectl.items("pods")}

    eventually(lambda: sorted(phases().values()) == ["Pending", "Running"], what="one runs, one waits", detail=phases)
    running = next(name for name, phase in phases().items() if phase == "Running")
    tenant.kubectl.delete("pod", running, now=True)
    eventually(lambda: list(phases().values()) == ["Running"], what="the other one runs", detail=phases)
