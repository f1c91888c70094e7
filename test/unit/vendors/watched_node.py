"""A watchdog over a simulated card and a real program that nothing holds; run in a process of its own, prints what came of it.

The program holds 12 GiB of a share of 8 GiB: no guard is in it, as in a static binary.  Its pod is known, its mounts are not.
With `partitions` the pod has a share on each of two MIG partitions, and the program holds 12 GiB of the second.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from node_rig import Rig

from hami_dra.api.k8s import ObjectReference
from hami_dra.core.ids import GpuUuid
from hami_dra.core.settings import WatchdogPolicy, WatchdogSettings
from hami_dra.host.process_table import ProcessTable
from hami_dra.node.attributor import Attributor
from hami_dra.node.consumers import Consumers
from hami_dra.node.ports import Attribution
from hami_dra.node.vendors import Vendors
from hami_dra.node.watchdog import Watchdog
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.gpus import allocated_claim, partition_result, share_result
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root

_HOLD = """
import ctypes, sys

cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(12 << 30)) == 0
print("holds", flush=True)
sys.stdin.read()
"""


@dataclass
class Events:
    """Remembers what was said."""

    said: list[str] = field(default_factory=list)

    def emit(self, regarding: ObjectReference, *, event_type: str, reason: str, message: str) -> None:
        """Note it."""
        self.said.append(f"{regarding['kind']} {event_type} {reason}: {message}")


@dataclass
class Table:
    """Real processes, of which one is in a pod."""

    pid: int
    table: ProcessTable = field(default_factory=ProcessTable)

    def pod_uid(self, pid: int) -> str | None:
        """The one is the pod's that uses the claim."""
        return "train-pod-uid" if pid == self.pid else self.table.pod_uid(pid)

    def kill(self, pid: int, *, still: Callable[[int], bool]) -> bool:
        """In earnest."""
        return self.table.kill(pid, still=still)


def main(root: Path, state: Path, policy: WatchdogPolicy, *, partitions: bool) -> None:
    """Watch for twenty seconds of a clock that costs nothing."""
    os.environ["SIMGPU_ROOT"] = str(root)
    driver = Root(path=root, host_path="/")
    discovery = NvidiaDiscovery(driver=driver, sysfs=root / "sys", proc=root / "proc", simulated=True)
    vendors = Vendors([discovery])
    rig = Rig(state, hardware=vendors(), partitioner=vendors)
    consumers, events, clock = Consumers(rig.claims), Events(), FakeClock()
    results = [share_result(memory_gib=8)]
    if partitions:
        places = [("first", 2), ("second", 4)]
        results = [partition_result("2g.20gb", at, request=name, share_id=name, memory_gib=8) for name, at in places]
    prepared = rig.prepare(rig.claims.add(allocated_claim("train", *results)))
    consumers.prepared(prepared)
    environment = os.environ | {"LD_LIBRARY_PATH": str(root / "usr" / "lib64")}
    partition = prepared.plan.shares[-1].partition
    if partition is not None:
        environment["CUDA_VISIBLE_DEVICES"] = str(partition.uuid)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "holds\n"

        def settings(_uuid: GpuUuid) -> WatchdogSettings:
            return WatchdogSettings(policy=policy)

        watchdog = Watchdog(
            ledger=rig.ledger,
            boot=rig.boot,
            attributor=Attributor(
                Attribution(meter=vendors, owner=lambda _pid: ()), processes=Table(program.pid), consumers=consumers
            ),
            settings=settings,
            events=events,
            group=rig.group,
            clock=clock,
        )
        for _ in range(10):
            clock.advance(2.0)
            watchdog.round()
        if policy is WatchdogPolicy.STOP:
            program.wait(30)
            watchdog.round()
        else:
            program.communicate("")
    held = [share.state.memory_bytes for share in watchdog.shares()]
    print(json.dumps({"said": events.said, "status": program.returncode, "held": held}))
    rig.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), WatchdogPolicy(sys.argv[3]), partitions=sys.argv[4:] == ["partitions"])
