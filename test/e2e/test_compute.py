"""Compute shares on a real cluster: what one does not use another has, and the card itself says who had how much."""

import pytest
from e2e.support import NodeFiles, Tenant, eventually, pod, share_template

from hacklib.deployment import KubeObject, Site
from hacklib.versions import Capability
from hami_dra.api.names import DRIVER
from hami_dra.core.limits import Limits, decode

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

WORK = """
import ctypes
from cuda.bindings import driver as cuda

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
module = cuda.cuModuleLoadData(b"simgpu\\nkernel simgpu_sleep(u64 ns)\\n\\0")[1]
kernel = cuda.cuModuleGetFunction(module, b"simgpu_sleep")[1]
print("works", flush=True)
while True:
    for _ in range(4):
        cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, 0, ((2_000_000,), (ctypes.c_uint64,)), 0)
    cuda.cuCtxSynchronize()
"""
"""Keeps a card busy with kernels of 2 ms."""
WINDOW_NS = 2_000_000_000


def _template(name: str, *, cores: int, qos: str) -> KubeObject:
    template = share_template(name, memory="1Gi", cores=cores)
    parameters = {"apiVersion": f"{DRIVER}/v1alpha1", "kind": "GpuConfig", "qos": qos}
    template["spec"]["spec"]["devices"]["config"] = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
    return template


class _Share:
    """A pod's share on node-1, seen from the node."""

    def __init__(self, site: Site, tenant: Tenant, name: str) -> None:
        uid = str(tenant.claim_of(name)["metadata"]["uid"])
        (self._limits,) = (NodeFiles(site, node=1).state_dir / "claims" / uid).glob("*/limits")
        self._site = site

    @property
    def limits(self) -> Limits:
        """What its guard reads now."""
        return decode(self._limits.read_bytes())

    def gpu_time_ns(self) -> dict[int, int]:
        """GPU time of each process on its card, by the card's own books."""
        card = next(card for card in self._site.cards(1) if card.uuid == self.limits.device_uuid)
        return {process.pid: process.gpu_time_ns for process in card.processes}


@pytest.mark.needs(Capability.SHARES)
def test_idle_compute_is_lent_and_given_back(site: Site, tenant: Tenant) -> None:
    """A burst share of 30 has the card while it is alone, and half of it beside a fixed share of 50 that computes."""
    template = _template("burst", cores=30, qos="BurstShare")
    tenant.kubectl.apply(template, pod("burst", template="burst", script=WORK, node=1))
    tenant.kubectl.wait_line("burst", "works")
    burst = _Share(site, tenant, "burst")
    eventually(lambda: burst.limits.granted_permille >= 950, what="the whole card for the burst share")
    (first,) = burst.gpu_time_ns()
    template = _template("fixed", cores=50, qos="FixedShare")
    tenant.kubectl.apply(template, pod("fixed", template="fixed", script=WORK, node=1))
    tenant.kubectl.wait_line("fixed", "works")
    before = burst.gpu_time_ns()

    def halves() -> bool:
        nonlocal before
        now = burst.gpu_time_ns()
        had = {pid: time - before.get(pid, 0) for pid, time in now.items()}
        if sum(had.values()) < WINDOW_NS:
            return False
        before = now
        return len(had) == 2 and abs(had[first] / sum(had.values()) - 0.5) <= 0.05

    eventually(halves, what="half of the card for each", detail=lambda: burst.limits)
    tenant.kubectl.run("delete", "pod", "fixed", "--grace-period=1")
    eventually(lambda: burst.limits.granted_permille >= 950, what="the whole card again")
