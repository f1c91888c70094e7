"""Isolation TimeSlicing and MPS on a real cluster: the card does what its shares ask for, as long as they are there."""

import os
import signal
from pathlib import Path

import pytest
from e2e.steady import wait_registered_again
from e2e.support import GIB, HOLD, NodeFiles, Tenant, all_run, eventually, plugin_processes, pod, share_template

from hacklib.deployment import KubeObject, Site, wait_until
from hacklib.versions import Capability
from hami_dra.api.names import DRIVER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600), pytest.mark.needs(Capability.SHARES)]

WORK = """
import ctypes
import signal
from cuda.bindings import driver as cuda

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
module = cuda.cuModuleLoadData(b"simgpu\\nkernel simgpu_sleep(u64 ns)\\n\\0")[1]
kernel = cuda.cuModuleGetFunction(module, b"simgpu_sleep")[1]
print("works", flush=True)
while True:
    for _ in range(4):
        cuda.cuLaunchKernel(kernel, 1 << 20, 1, 1, 1024, 1, 1, 0, 0, ((2_000_000,), (ctypes.c_uint64,)), 0)
    (error,) = cuda.cuCtxSynchronize()
    if error:
        print(f"failed: {error.name}", flush=True)
        signal.pause()
"""
"""Keeps all of a card busy with kernels of 2 ms, until that fails."""
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


def _daemons(site: Site) -> list[int]:
    """Host process ids of the MPS control daemons of the cluster."""

    def ours(process: Path) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            in_cluster = site.cluster.spec.cgroup in (process / "cgroup").read_text(encoding="utf-8")
            return in_cluster and words[0].endswith(b"/nvidia-cuda-mps-control") and b"-f" in words
        except OSError:
            return False

    return [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit() and ours(process)]


def _mps(tenant: Tenant, **cores: int) -> None:
    """A pod with an MPS share of 4 GiB that keeps node-1's card busy for each name, with so many cores."""
    for name, percent in cores.items():
        tenant.kubectl.apply(
            _template(name, memory="4Gi", cores=percent, isolation="MPS"), pod(name, template=name, script=WORK, node=1)
        )
    for name in cores:
        tenant.kubectl.wait_line(name, "works")


def test_example_16_mps(site: Site, tenant: Tenant) -> None:
    """Pods of two users are clients of one daemon with their parts of the card, whatever their environment says."""
    tenant.example("16-mps")
    for name, percent in (("mps-small", 30), ("mps-large", 70)):
        assert tenant.kubectl.wait_line(name, "on ") == [
            "CUDA sees 8192 MiB",
            "10 GiB: CUDA_ERROR_OUT_OF_MEMORY",
            f"on {percent} percent of the card",
        ]
    assert tenant.wait_condition("mps-small", "Resolved")["status"] == "True"
    data = tenant.claim_of("mps-small")["status"]["devices"][0]["data"]
    assert (data["limits"]["isolation"], data["limits"]["cores"]) == ("MPS", 30)
    assert len(_daemons(site)) == 1
    for name in ("mps-small", "mps-large"):
        tenant.kubectl.delete("pod", name, now=True)
    eventually(lambda: not _daemons(site), what="no daemon left")


def test_mps_shares_compute_at_once(site: Site, tenant: Tenant) -> None:
    """Together they get more of the card's time than passes on it, which processes that take turns cannot."""
    _mps(tenant, thirty=30, seventy=70)

    def times() -> tuple[int, int]:
        card = site.cards(1)[0]
        return sum(process.gpu_time_ns for process in card.processes), card.busy_ns

    before = times()

    def overlaps() -> bool:
        used, busy = (after - earlier for after, earlier in zip(times(), before, strict=True))
        return used > WINDOW_NS and used > 1.2 * busy

    eventually(overlaps, what="kernels of both at once")


def test_guard_beside_mps_is_refused_with_the_reason(tenant: Tenant) -> None:
    """A card with MPS shares is no place for a guarded share: the event says with whom it would be."""
    _mps(tenant, first=30)
    tenant.kubectl.apply(share_template("guarded", memory="4Gi", cores=30), pod("guarded", template="guarded", node=1))
    events = wait_until(lambda: tenant.events_of("guarded", reason="IsolationConflict"), what="Event IsolationConflict")
    assert f"{tenant.kubectl.namespace}/first" in events[-1]["message"]
    assert "with MPS" in events[-1]["message"]


def test_a_killed_daemon_is_reported_and_comes_back(site: Site, tenant: Tenant) -> None:
    """Its clients fail, their claim and pods say why; the next daemon takes clients again, and the claim is ready."""
    _mps(tenant, client=30)
    (daemon,) = _daemons(site)
    os.kill(daemon, signal.SIGKILL)
    events = wait_until(lambda: tenant.events_of("client", reason="MpsNotReady"), what="Event MpsNotReady")
    assert "was killed by signal 9" in events[-1]["message"]
    assert tenant.kubectl.wait_line("client", "failed: ")[-1] == "failed: CUDA_ERROR_MPS_RPC_FAILURE"
    eventually(lambda: _daemons(site) not in ([], [daemon]), what="another daemon")
    eventually(lambda: tenant.wait_condition("client", "Ready")["status"] == "True", what="the claim ready again")
    metrics = _metrics(site)
    assert "hami_dra_mps_daemon_ends_total" in metrics
    tenant.kubectl.apply(pod("next", template="client", script=WORK, node=1))
    tenant.kubectl.wait_line("next", "works")


def _metrics(site: Site) -> str:
    """The metrics page of node-1's plugin."""
    return site.system.run(
        "get", "--raw", f"/api/v1/namespaces/{site.system.namespace}/pods/{site.node_plugin(1)}:8080/proxy/metrics"
    )


def test_a_killed_node_plugin_hurts_no_client_of_mps(site: Site, tenant: Tenant) -> None:
    """The daemon is another process's child: it serves on, and the next plugin finds all as it was."""
    _mps(tenant, client=50)
    daemons = _daemons(site)
    (plugin,) = plugin_processes(site, node=1)
    os.kill(plugin, signal.SIGKILL)
    wait_registered_again(site, killed=plugin)
    worked = sum(process.gpu_time_ns for process in site.cards(1)[0].processes)
    eventually(
        lambda: sum(process.gpu_time_ns for process in site.cards(1)[0].processes) - worked > WINDOW_NS,
        what="two more seconds of GPU time",
    )
    assert _daemons(site) == daemons
    tenant.kubectl.apply(pod("next", template="client", script=HOLD.format(gib=1), node=1))
    tenant.kubectl.wait_line("next", "CUDA_SUCCESS")
    uid = tenant.claim_of("next")["metadata"]["uid"]
    assert uid in NodeFiles(site, node=1).prepared().everything
    assert site.cards(1)[0].used_bytes >= GIB
