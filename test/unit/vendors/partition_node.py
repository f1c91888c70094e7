"""Makes and removes MIG partitions below a simulated driver root as it is told, one line of JSON a call; a process of its own."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hami_dra.core.errors import HamiDraError
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Partition
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root


def main(root: Path) -> None:
    """Answer each line: what the call returned, or the class and message of its error."""
    os.environ["SIMGPU_ROOT"] = str(root)
    vendor = NvidiaDiscovery(driver=Root(path=root, host_path="/opt/sim"), sysfs=root / "sys", proc=root / "proc")
    for line in sys.stdin:
        try:
            answer = {"value": _do(vendor, *json.loads(line))}
        except HamiDraError as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _do(vendor: NvidiaDiscovery, what: str, *arguments: Any) -> Any:
    if what == "look":
        return [asdict(gpu) for gpu in vendor.discover().gpus]
    if what == "live":
        return sorted(partition.name for partition in vendor.partitions.live(DeviceName(arguments[0])))
    if what == "make_whole":
        return vendor.partitions.make_whole(DeviceName(arguments[0]))
    gpu, profile, start = arguments[:3]
    partition = Partition(gpu=DeviceName(gpu), profile=profile, start=start)
    if what == "remove":
        return vendor.partitions.remove(partition)
    return asdict(vendor.partitions.ensure(partition, make=what == "make"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
