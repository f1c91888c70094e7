"""The file system of a node: the host's, except for what a node writes or is told to see differently.

Private to each node: /var/lib and /var/log (folders on disk that live as long as the cluster), /run (gone at a reboot
of the node), /etc (the host's below, changes in memory).  The kernel's settings that a kubelet insists on are covered
by files that already say so, hence a cluster changes nothing of the host's.
"""

import subprocess
import uuid
from pathlib import Path

from hacklib.cluster.spec import Node
from hacklib.ui import HackError

__all__ = ["PRIVATE_FOLDERS", "mount_all", "prepare"]

PRIVATE_FOLDERS = ("/var/lib", "/var/log", "/run", "/etc")
_VAR_LIB = ("kubelet", "hami-dra", "hami-sim", "cni")
_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets at its start (pkg/kubelet/cm setupKernelTunables) unless it finds it so."""


def prepare(node: Node) -> None:
    """Make the folders that `mount_all` shows to the node.  Runs before the node's first process."""
    for name in _VAR_LIB:
        (node.folder / "var-lib" / name).mkdir(parents=True, exist_ok=True)
    for name in ("pods", "containers"):
        (node.folder / "var-log" / name).mkdir(parents=True, exist_ok=True)
    (node.folder / "cni").mkdir(exist_ok=True)


def mount_all(node: Node) -> None:
    """Turn the mounts of the calling process, which are a copy of the host's, into the node's."""
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    for name in ("upper", "work"):
        Path("/run/etc", name).mkdir(parents=True)
    _mount("-t", "overlay", "-o", "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work", "overlay", "/etc")
    for folder in ("/run/lock", "/run/cdi", "/etc/cdi"):
        Path(folder).mkdir(exist_ok=True)
    _mount("--rbind", str(node.folder / "var-lib"), "/var/lib")  # with what a test mounted below
    _mount("--bind", str(node.folder / "var-log"), "/var/log")
    Path("/run/settings").mkdir()
    _cover("/proc/sys/kernel/random/boot_id", str(uuid.uuid4()))
    for name, value in _SETTINGS.items():
        _cover(f"/proc/sys/{name}", value)
    for mount in node.spec.node_mounts:
        if mount.node == node.index:
            Path(mount.target).mkdir(parents=True, exist_ok=True)
            _mount("--rbind", mount.source, mount.target)
    _mount("--make-rshared", "/")
    if not Path("/var/run").samefile("/run"):
        raise HackError("/var/run is not a link to /run on this machine: CDI files of the nodes would be mixed")


def _cover(path: str, value: str) -> None:
    if Path(path).exists():
        own = Path("/run/settings", path.replace("/", "-"))
        own.write_text(f"{value}\n", encoding="utf-8")
        _mount("--bind", str(own), path)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"`mount {' '.join(arguments)}` failed: {done.stderr.strip()}")
