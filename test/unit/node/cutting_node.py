"""A node plugin's state machine on simulated cards, driven by NVML; run in a process of its own, which somebody kills.

cutting_node.py DIRECTORY DRIVER_ROOT cut      prepares and unprepares three claims on partitions for ever
cutting_node.py DIRECTORY DRIVER_ROOT heal     starts, prepares the three as kubelet's retry does, and prints what lies there
cutting_node.py DIRECTORY DRIVER_ROOT clear    starts, unprepares them, and prints what lies there
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from node_rig import Rig

from hami_dra.core.inventory import Inventory
from hami_dra.node.vendors import Vendors
from hami_dra.testing.gpus import allocated_claim, partition_result
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root

if TYPE_CHECKING:
    from hami_dra.testing.partitions import CuttableCards


class SimulatedRig(Rig):
    """The rig with the real vendor on simulated cards."""

    def __post_init__(self) -> None:
        root = Path(os.environ["SIMGPU_ROOT"])
        self.vendors = Vendors([NvidiaDiscovery(driver=Root(path=root), sysfs=root / "sys", proc=root / "proc")])
        self.cards = cast("CuttableCards", self.vendors)
        self.start()

    def _look(self) -> Inventory:
        return self.vendors()


def main(directory: Path, root: Path, what: str) -> None:
    """See the module."""
    os.environ["SIMGPU_ROOT"] = str(root)
    rig = SimulatedRig(directory)
    results = [("small", "1g.10gb", 6), ("medium", "2g.20gb", 4), ("large", "3g.40gb", 0)]
    refs = [rig.claims.add(allocated_claim(name, partition_result(profile, start))) for name, profile, start in results]
    if what == "cut":
        sys.stdout.write("ready\n")
        sys.stdout.flush()
    while True:
        for ref in refs:
            if what != "clear":
                rig.prepare(ref)
        for ref in refs:
            if what != "heal":
                rig.unprepare(ref)
        if what != "cut":
            break
    facts = rig.facts()
    sys.stdout.write(json.dumps({"cdi": sorted(facts.cdi), "ledger": facts.ledger}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
