"""What the product's processes take: resident memory, and time from start to the first published slice.

Looked at from the host: a process is told by its arguments and by the cluster's cgroup, its start by the kernel's clock.
"""

import json
import os
import time
from datetime import datetime
from pathlib import Path

from hacklib.deployment import Site

__all__ = ["resident_mib", "seconds_to_first_slice"]


def resident_mib(site: Site, *, component: str) -> float:
    """Resident memory of a component's process, the larger one's where there are several."""
    sizes = [
        int(line.split()[1]) / 1024
        for process in _processes(site, component)
        for line in (process / "status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmRSS:")
    ]
    return max(sizes)


def seconds_to_first_slice(site: Site) -> float:
    """From the start of the node plugin's process to its word that slices are published; of a plugin never restarted."""
    (process,) = _processes(site, "node")
    for line in site.system.logs(site.node_plugin(1)):
        entry = json.loads(line)
        if entry["message"] == "slices published":
            return datetime.fromisoformat(entry["time"]).timestamp() - _started(process)
    raise AssertionError("the plugin has not published: " + site.system_story())


def _processes(site: Site, component: str) -> list[Path]:
    def ours(process: Path) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            cgroup = (process / "cgroup").read_text(encoding="utf-8")
        except OSError:
            return False
        return component.encode() in words[1:4] and site.cluster.spec.cgroup in cgroup

    return [process for process in Path("/proc").iterdir() if process.name.isdigit() and ours(process)]


def _started(process: Path) -> float:
    """When a process started, as seconds since the epoch."""
    ticks = int((process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + ticks / os.sysconf("SC_CLK_TCK")
