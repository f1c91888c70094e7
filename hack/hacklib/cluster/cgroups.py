"""The cgroup folders of a cluster, on machines with cgroup v1, v2 or both.

A cluster owns one folder in every hierarchy and nothing else; its nodes own folders below.  Everything else about a
cluster dies with its namespaces, these folders have to be removed by hand.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from hacklib.ui import HackError

__all__ = ["ROOT", "check_writable", "hierarchies", "join", "make", "remove", "weigh"]

ROOT = Path("/sys/fs/cgroup")
_REMOVE_DEADLINE_S = 20.0
_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def hierarchies(root: Path = ROOT) -> list[Path]:
    """The folders in which cgroups are made: the only one of v2, or one for each hierarchy of v1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted({folder.resolve() for folder in root.iterdir() if (folder / "cgroup.procs").exists()})


def check_writable(root: Path = ROOT) -> None:
    """Raise HackError if cgroups cannot be made here."""
    found = hierarchies(root) if root.is_dir() else []
    if not found:
        raise HackError(f"no cgroup file system is mounted at {root}: a cluster needs one")
    for hierarchy in found:
        probe = hierarchy / f"hami-dra-probe-{os.getpid()}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise HackError(
                f"{hierarchy} is not writable ({error.strerror}): in a container, run it privileged with a cgroup "
                "namespace of its own"
            ) from error


def make(path: str, *, root: Path = ROOT) -> None:
    """Make the cgroup `path`, such as `a/b`, in every hierarchy, ready to hold pods.  Parents are made as well."""
    for hierarchy in hierarchies(root):
        _delegate(_make_in(hierarchy, path))


def join(path: str, *, pid: int | None = None, root: Path = ROOT) -> None:
    """Move a process (by default this one) into the cgroup `path` of every hierarchy; what it starts from now on is there too.

    The cgroup is made if it lacks.
    """
    for hierarchy in hierarchies(root):
        (_make_in(hierarchy, path) / "cgroup.procs").write_text(str(pid or os.getpid()))


def weigh(path: str, *, cpus: int, root: Path = ROOT) -> None:
    """Give the cgroup `path` the weight of a machine with so many CPUs against everything that runs beside it."""
    for hierarchy in hierarchies(root):
        for name, one_cpu in (("cpu.shares", 1024), ("cpu.weight", 100)):
            if (file := hierarchy / path / name).exists():
                file.write_text(str(one_cpu * cpus))


def remove(path: str, *, root: Path = ROOT) -> None:
    """Remove the cgroup `path` from every hierarchy with all below it, killing whatever still runs there."""
    deadline = time.monotonic() + _REMOVE_DEADLINE_S
    for hierarchy in hierarchies(root):
        top = hierarchy / path
        while top.exists():
            for folder, _, _ in os.walk(top, topdown=False):
                _empty(Path(folder))
                with suppress(OSError):
                    Path(folder).rmdir()
            if top.exists():
                if time.monotonic() > deadline:
                    raise HackError(f"cgroup {top} cannot be removed: something in it does not die")
                time.sleep(0.05)


def _make_in(hierarchy: Path, path: str) -> Path:
    current = hierarchy
    for part in Path(path).parts:
        _delegate(current)
        parent, current = current, current / part
        current.mkdir(exist_ok=True)
        for name in _CPUSET_FILES:  # v1: a new cpuset has no CPU at all
            file = current / name
            if file.exists() and not (hierarchy / "cgroup.controllers").exists():
                file.write_text((parent / name).read_text())
    return current


def _delegate(folder: Path) -> None:
    """Hand all controllers of a v2 cgroup to its children; v1 needs nothing."""
    control = folder / "cgroup.subtree_control"
    if not control.exists():
        return
    wanted = set((folder / "cgroup.controllers").read_text().split()) - set(control.read_text().split())
    for controller in sorted(wanted):
        with suppress(OSError):  # some, such as rdma, may be refused; the kubelet names what it lacks
            control.write_text(f"+{controller}")


def _empty(folder: Path) -> None:
    with suppress(OSError):
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
