"""The node plugin's arbiter in a process of its own, for the shares below a directory; ends with its standard input.

    arbitrate.py DRIVER_ROOT CLAIMS_DIRECTORY SHARE...      each share as name:cores:qos:priority

Makes the shares' files, says `ready`, and then does what the node plugin does.  NVML is loaded once for the life of a
process, so a test that wants its own driver root needs its own process.
"""

import os
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.api.opaque import Isolation, Priority, Qos
from hami_dra.core.devices import Size
from hami_dra.core.ids import ClaimUid, PoolName, RequestName, ShareId, ShareKey
from hami_dra.core.inventory import Gpu
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.core.record import Entry, Phase
from hami_dra.core.share import ShareSpec
from hami_dra.host.live_shares import LiveShares
from hami_dra.host.processes import ShareProcesses
from hami_dra.host.share_dir import ShareDirectory
from hami_dra.node.arbiter import Arbiter
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import Attribution
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root

BOOT = "boot"


class Rows:
    """A ledger as far as the arbiter needs one."""

    def __init__(self, plans: list[ClaimPlan]) -> None:
        self._entries = [Entry(phase=Phase.COMPLETED, boot=BOOT, plan=plan) for plan in plans]

    def entries(self) -> list[Entry]:
        """All of them."""
        return self._entries


def plan_of(text: str, gpu: Gpu) -> ClaimPlan:
    """A claim with one share of the card."""
    name, cores, qos, priority = text.split(":")
    spec = ShareSpec(
        request=RequestName("gpu"),
        pool=PoolName("node/gpu"),
        device=gpu.name,
        share_id=ShareId(name),
        key=ShareKey(name),
        admin_access=False,
        memory_bytes=1 << 30,
        cores_percent=int(cores),
        isolation=Isolation.GUARD,
        qos=Qos(qos),
        priority=Priority(priority),
    )
    offered = Size(memory_bytes=gpu.memory_bytes, cores_percent=100)
    share = PlannedShare(spec=spec, gpu_uuid=gpu.uuid, device_memory_bytes=gpu.memory_bytes, offered=offered)
    return ClaimPlan(namespace="test", name=name, uid=ClaimUid(name), shares=(share,))


def main(root: Path, claims: Path, *shares: str) -> None:
    """Arbitrate until nobody listens any more."""
    os.environ["SIMGPU_ROOT"] = str(root)
    look = NvidiaDiscovery(driver=Root(path=root, host_path=str(root)), simulated=True)
    plans = [plan_of(share, look.discover().gpus[0]) for share in shares]
    directory = ShareDirectory(claims)
    directory.check()
    for plan in plans:
        directory.ensure(plan, boot=BOOT, texts={})
    with Group("arbiter") as group:
        arbiter = Arbiter(
            shares=LiveShares(claims, lock=claims.parent / "limits.lock"),
            ledger=Rows(plans),  # type: ignore[arg-type] # all of it that is asked for
            boot=BOOT,
            attribution=Attribution(meter=look, owner=ShareProcesses(claims)),
            metrics=NodeMetrics(CollectorRegistry()),
            group=group,
        )
        group.spawn("arbiter", arbiter.run)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
