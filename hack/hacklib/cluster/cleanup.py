"""Removes what a cluster leaves when all its processes are dead: cgroups and its folder.

Refuses to delete below a mount point: a folder of a living node holds mounts of other folders.
"""

import shutil
from pathlib import Path

from hacklib.cluster import cgroups
from hacklib.ui import HackError

__all__ = ["remove"]


def remove(folder: Path, *, cgroup: str) -> None:
    """Remove the cgroups, then the folder.  Both may be gone already.  Raises HackError if something is mounted there."""
    cgroups.remove(cgroup)
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    below = [words[4] for words in map(str.split, mounts) if words[4].startswith(f"{folder}/")]
    if below:
        raise HackError(f"{', '.join(below)} still mounted: {folder} is not removed")
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        shutil.rmtree(folder)
