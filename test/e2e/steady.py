"""Pods that nothing may disturb, and what a node must hold for its claims whatever happened."""

from e2e.support import NodeFiles, Tenant, eventually, plugin_processes

from hacklib.deployment import Site, wait_until

TICK = """
from cuda.bindings import driver as cuda
import itertools
import time

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
for number in itertools.count(1):
    error, pointer = cuda.cuMemAlloc(1 << 30)
    print(f"tick {number}: {error.name}", flush=True)
    cuda.cuMemFree(pointer)
    time.sleep(0.2)
"""


def _uids(tenant: Tenant) -> set[str]:
    return {claim["metadata"]["uid"] for claim in tenant.claims()}


def exactly_once(tenant: Tenant, files: NodeFiles) -> None:
    """Each claim of the tenant has one share, one CDI file and one completed entry, and nobody else has anything."""

    def once() -> bool:
        prepared = files.prepared()
        uids = _uids(tenant)
        return (
            prepared.shares == dict.fromkeys(uids, 1)
            and prepared.specs == uids
            and prepared.ledger == dict.fromkeys(uids, "Completed")
        )

    eventually(once, what="each claim exactly once", detail=lambda: (_uids(tenant), files.prepared()))


def _tick(tenant: Tenant, name: str) -> int:
    """The last tick of a pod, which must all have gone well; read on its node, for when the API server is away."""
    folder = tenant.site.cluster.spec.node(1).folder / "var-log" / "pods"
    (log,) = folder.glob(f"{tenant.kubectl.namespace}_{name}_*/main/0.log")
    words = [line.split() for line in log.read_text(encoding="utf-8").splitlines() if " tick " in line]
    assert {word[-1] for word in words} <= {"CUDA_SUCCESS"}
    return int(words[-1][-2].rstrip(":")) if words else 0


def goes_on(tenant: Tenant, name: str) -> None:
    """Wait until a pod that runs TICK has ticked again; none of its ticks failed."""
    before = _tick(tenant, name)
    eventually(lambda: _tick(tenant, name) > before + 2, what=f"{name} goes on")


def wait_registered_again(site: Site, *, killed: int) -> None:
    """Wait until a plugin that was killed on node-1 has a successor that kubelet knows."""
    wait_until(
        lambda: set(plugin_processes(site, node=1)) - {killed}, what="another process of the plugin", deadline_s=60
    )
    wait_until(lambda: "registered with kubelet" in plugin_log(site), what="the plugin registered")


def plugin_log(site: Site) -> str:
    """What the node plugin's container on node-1 has printed, read there: kubectl shows a former one's for a while."""
    folder = site.cluster.spec.node(1).folder / "var-log" / "pods"
    logs = folder.glob(f"*_{site.node_plugin(1)}_*/node/*.log")
    return max(logs, key=lambda log: int(log.stem)).read_text(encoding="utf-8")
