"""What tests must not leave behind: processes in namespaces of their own, mounts, cgroups, network devices.

A snapshot is a set of lines for people; what the later one has beyond the earlier one was left behind.
"""

from pathlib import Path

__all__ = ["difference", "snapshot"]


def snapshot() -> frozenset[str]:
    """Everything of ours that lives on this machine right now."""
    return frozenset({*_processes(), *_mounts(), *_cgroups(), *_links()})


def difference(before: frozenset[str], after: frozenset[str]) -> list[str]:
    """What `after` has and `before` had not."""
    return sorted(after - before)


def _processes() -> list[str]:
    """Processes that do not share our network or pid namespace."""
    own = {name: _namespace("self", name) for name in ("net", "pid")}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and any(_namespace(entry.name, name) not in {own[name], None} for name in own):
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found.append(f"process {entry.name}: {command[:120]}")
    return found


def _namespace(process: str, name: str) -> str | None:
    try:
        return str(Path(f"/proc/{process}/ns/{name}").readlink())
    except OSError:
        return None


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [f"mount {' '.join(line.split()[:3])}" for line in lines]


def _cgroups() -> list[str]:
    root = Path("/sys/fs/cgroup")
    return [f"cgroup {path}" for path in [*root.glob("*hami*"), *root.glob("*/*hami*")]]


def _links() -> list[str]:
    root = Path("/sys/class/net")
    return [f"network device {path.name}" for path in root.iterdir()] if root.is_dir() else []
