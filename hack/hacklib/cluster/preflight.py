"""Whether this machine can run a cluster, said before anything is started.

Missing system tools are installed by `hack/bootstrap --cluster`; everything else is for the user to change, so each
message says what and why.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from hacklib import paths
from hacklib.cluster import cgroups
from hacklib.ui import HackError

__all__ = ["check"]

_NEEDED_BYTES = 3 << 30
_TOOLS = ("unshare", "nsenter", "setsid", "mount", "ip", "nft")
_FEATURES = {
    "network bridges (CONFIG_BRIDGE)": "ip link add hami0 type bridge",
    "virtual Ethernet (CONFIG_VETH)": "ip link add hami1 type veth peer name hami2",
    "nftables with address translation (CONFIG_NF_TABLES, CONFIG_NFT_NAT)": (
        "nft add table ip hami && nft 'add chain ip hami nat { type nat hook postrouting priority 100; }'"
    ),
    "the overlay file system (CONFIG_OVERLAY_FS)": (
        "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w && "
        "mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w overlay /mnt"
    ),
}


def check() -> None:
    """Raise HackError with the first thing that stands in the way."""
    if sys.platform != "linux":
        raise HackError(f"clusters need Linux, this is {sys.platform}")
    if os.geteuid() != 0:
        raise HackError("clusters need root (namespaces, mounts, cgroups): run this as root, for instance with sudo")
    _tools()
    _kernel()
    cgroups.check_writable()
    folder = paths.clusters_dir()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.is_relative_to(private) for private in ("/var/lib", "/var/log", "/run", "/etc")):
        raise HackError(f"{folder} lies where nodes have folders of their own: set {paths.CACHE_VARIABLE} to another")
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_BYTES:
        raise HackError(f"{folder} has {free >> 20} MiB free, a cluster needs {_NEEDED_BYTES >> 20}: make room")


def _tools() -> None:
    if all(map(shutil.which, _TOOLS)):
        return
    subprocess.run([paths.REPOSITORY / "hack/bootstrap", "--cluster"], stdout=sys.stderr, check=False)
    if missing := [tool for tool in _TOOLS if not shutil.which(tool)]:
        raise HackError(f"{', '.join(missing)} not found: install util-linux, iproute2 and nftables")


def _kernel() -> None:
    probe = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]
    everything = " && ".join(f"( {command} )" for command in _FEATURES.values())
    if _works([*probe, everything]):
        return
    for feature, command in _FEATURES.items():
        if not _works([*probe, command]):
            raise HackError(f"the kernel lacks {feature}, or it may not be used here: `{command}` fails")
    raise HackError("new network, mount and pid namespaces cannot be made here: in a container, run it privileged")


def _works(command: list[str]) -> bool:
    where = Path("/")
    return subprocess.run(command, cwd=where, capture_output=True, check=False).returncode == 0
