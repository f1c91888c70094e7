"""Isolation TimeSlicing on a real cluster: the card does what its shares ask for, as long as they are there."""

import pytest
from e2e.support import HOLD, Tenant, all_run, eventually, pod, share_template

from hacklib.deployment import KubeObject, Site, wait_until
from hami_dra.api.names import DRIVER

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
        cuda.cuLaunchKernel(kernel, 1 << 20, 1, 1, 1024, 1, 1, 0, 0, ((2_000_000,), (ctypes.c_uint64,)), 0)
    cuda.cuCtxSynchronize()
"""
"""Keeps all of a card busy with kernels of 2 ms."""
WINDOW_NS = 2_000_000_000


def _template(name: str, *, memory: str, cores: int | None = None, **config: object) -> KubeObject:
    template = share_template(name, memory=memory, cores=cores)
    parameters = {"apiVersion": f"{DRIVER}/v1alpha1", "kind": "GpuConfig"} | config
    template["spec"]["spec"]["devices"]["config"] = [{"opaque": {"driver": DRIVER, "parameters": parameters}}]
    return template


def test_example_14_time_slicing(site: Site, tenant: Tenant) -> None:
    """Both pods are held to their memory on one card, whose turns are long until both are gone."""
    tenant.example("14-time-slicing")
    pods = ("first-turn", "second-turn")
    for name in pods:
        assert tenant.kubectl.wait_line(name, "10 GiB") == ["CUDA sees 8192 MiB", "10 GiB: CUDA_ERROR_OUT_OF_MEMORY"]
    tenant.wait_condition("first-turn", "Resolved")
    limits = tenant.claim_of("first-turn")["status"]["devices"][0]["data"]["limits"]
    assert (limits["isolation"], limits["interval"]) == ("TimeSlicing", "Long")
    results = [tenant.claim_of(name)["status"]["allocation"]["devices"]["results"][0] for name in pods]
    assert len({(result["pool"], result["device"]) for result in results}) == 1
    node, device = int(results[0]["pool"].removeprefix("node-").removesuffix("/gpu")), results[0]["device"]

    def slice_ns() -> int:
        return next(card.time_slice_ns for card in site.cards(node) if card.device == device)

    assert slice_ns() == 16_000_000
    tenant.kubectl.delete("pod", "first-turn", now=True)
    eventually(lambda: len(tenant.claims()) == 1, what="the first claim gone")
    assert slice_ns() == 16_000_000
    tenant.kubectl.delete("pod", "second-turn", now=True)
    eventually(lambda: slice_ns() == 0, what="the card's turns as they were")


def test_time_sliced_shares_compute_alike(site: Site, tenant: Tenant) -> None:
    """Nobody is promised cores, so each has half of the card, whatever it launches."""
    tenant.kubectl.apply(
        _template("turns", memory="4Gi", isolation="TimeSlicing"),
        *(pod(name, template="turns", script=WORK, node=1) for name in ("one", "two")),
    )
    for name in ("one", "two"):
        tenant.kubectl.wait_line(name, "works")

    def times() -> list[int]:
        return sorted(process.gpu_time_ns for process in site.cards(1)[0].processes)

    before = times()
    eventually(lambda: sum(times()) - sum(before) > WINDOW_NS, what="two seconds of the card's time")
    one, two = (after - earlier for after, earlier in zip(times(), before, strict=True))
    assert 0.4 < one / (one + two) < 0.6


def test_another_mode_on_a_card_in_use_is_refused_with_the_reason(tenant: Tenant) -> None:
    """The second pod waits and its claim says for whom; when the first is gone, it runs."""
    tenant.kubectl.apply(
        share_template("guarded", memory="4Gi"),
        _template("turns", memory="4Gi", isolation="TimeSlicing"),
        pod("guarded", template="guarded", script=HOLD.format(gib=1), node=1),
    )
    tenant.kubectl.wait_line("guarded", "CUDA_SUCCESS")
    tenant.kubectl.apply(pod("turns", template="turns", node=1))
    events = wait_until(lambda: tenant.events_of("turns", reason="IsolationConflict"), what="Event IsolationConflict")
    assert f"{tenant.kubectl.namespace}/guarded" in events[-1]["message"]
    assert "with Guard" in events[-1]["message"]
    ready = tenant.wait_condition("turns", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "IsolationConflict")
    tenant.kubectl.delete("pod", "guarded", now=True)
    all_run(tenant, ["turns"])
