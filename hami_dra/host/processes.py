"""Which shares the processes of this node have, and in which containers, by procfs.

Sees the processes of the pid namespace whose procfs is mounted: all of the node's where the pod has `hostPID`.  Needs no
privilege: `/proc/<pid>/mountinfo` is open to everybody.  A process that ended meanwhile has no shares.
"""

import threading
from pathlib import Path
from typing import NamedTuple

from hami_dra.api.names import DRIVER
from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.core.mounts import Place, container_of, locate, shares_of

__all__ = ["ShareProcesses"]

_ENDED = frozenset("ZX")
"""States of a process of which nothing but its number is left."""
_KNOWN = 4096
"""More processes than that on one node's cards are looked up again and again."""


class _Process(NamedTuple):
    shares: frozenset[tuple[ClaimUid, ShareKey]]
    container: str | None


_NOTHING = _Process(frozenset(), None)


class ShareProcesses:
    """Call it with a pid.  Safe to use from many threads."""

    def __init__(
        self, claims_dir: Path, *, kubelet_root: Path = Path("/var/lib/kubelet"), proc: Path = Path("/proc")
    ) -> None:
        """Look there.

        Args:
            claims_dir: the directory of all share files, as this process sees it.
            kubelet_root: kubelet's; this process sees the driver's own directory below it.
            proc: where procfs is mounted.
        """
        self._proc = proc
        self._door = threading.Lock()
        self._begun = 0
        """How many looks at all processes have begun."""
        self._in_use: frozenset[ClaimUid] = frozenset()
        mounts = _read(proc / "self" / "mountinfo")
        self._claims: Place | None = locate(mounts, str(claims_dir.resolve()))
        self._kubelet = _above(locate(mounts, str(kubelet_root / "plugins" / DRIVER)))
        self._known: dict[tuple[int, str, str], _Process] = {}

    def __call__(self, pid: int) -> frozenset[tuple[ClaimUid, ShareKey]]:
        """The shares of that process; none where it cannot be told."""
        return self._look(pid).shares

    def claims(self) -> frozenset[ClaimUid]:
        """The claims of which some process that can be seen has a share with files; one look serves all who came before it."""
        mine = self._begun + 1
        with self._door:
            if self._begun < mine:
                self._begun += 1
                self._in_use = frozenset(uid for pid in self._pids() for uid, _ in self(pid))
            return self._in_use

    def containers(self) -> dict[tuple[ClaimUid, ShareKey], set[str]]:
        """Names of the containers in which processes that can be seen have which share with files."""
        found: dict[tuple[ClaimUid, ShareKey], set[str]] = {}
        for pid in self._pids():
            process = self._look(pid)
            for share in process.shares if process.container else ():
                found.setdefault(share, set()).add(process.container or "")
        return found

    def _pids(self) -> list[int]:
        return [int(path.name) for path in self._proc.iterdir() if path.name.isdecimal()]

    def _look(self, pid: int) -> _Process:
        if self._claims is None:
            return _NOTHING
        started, name, state = _status(_read(self._proc / str(pid) / "stat"))
        if state in _ENDED:
            return _NOTHING
        process = (pid, started, name)
        known = self._known.get(process)
        if known is None:
            mounts = _read(self._proc / str(pid) / "mountinfo")
            shares = shares_of(mounts, self._claims)
            known = _Process(shares, container_of(mounts, self._kubelet) if shares and self._kubelet else None)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[process] = known
        return known


def _above(plugin: Place | None) -> Place | None:
    """Kubelet's directory, above that of the driver; None where it is called otherwise on its file system."""
    path = "" if plugin is None else plugin.path.removesuffix(f"/plugins/{DRIVER}")
    return None if plugin is None or path == plugin.path else Place(plugin.device, path or "/")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _status(stat: str) -> tuple[str, str, str]:
    """When the process started, its name, which may hold anything, and its state.

    A pid that is used again is another process; one that got another name has executed something, as the runtime does when it
    has mounted what its container is to have.
    """
    name, _, behind = stat.rpartition(")")
    fields = behind.split()
    if len(fields) <= 19:  # noqa: PLR2004 - field 22 of proc_pid_stat(5)
        return "", "", ""
    return fields[19], name, fields[0]
