"""Which shares the processes of this node have, by procfs.

Sees the processes of the pid namespace whose procfs is mounted: all of the node's where the pod has `hostPID`.  Needs no
privilege: `/proc/<pid>/mountinfo` is open to everybody.  A process that ended meanwhile has no shares.
"""

from pathlib import Path

from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.core.mounts import Place, locate, shares_of

__all__ = ["ShareProcesses"]

_KNOWN = 4096
"""More processes than that on one node's cards are looked up again and again."""


class ShareProcesses:
    """Call it with a pid.  Not for several threads at once."""

    def __init__(self, claims_dir: Path, *, proc: Path = Path("/proc")) -> None:
        """`claims_dir` is the directory of all share files, as this process sees it."""
        self._proc = proc
        self._claims: Place | None = locate(_read(proc / "self" / "mountinfo"), str(claims_dir.resolve()))
        self._known: dict[tuple[int, str], frozenset[tuple[ClaimUid, ShareKey]]] = {}

    def __call__(self, pid: int) -> frozenset[tuple[ClaimUid, ShareKey]]:
        """The shares of that process; none where it cannot be told."""
        if self._claims is None:
            return frozenset()
        process = (pid, _started(_read(self._proc / str(pid) / "stat")))
        shares = self._known.get(process)
        if shares is None:
            shares = shares_of(_read(self._proc / str(pid) / "mountinfo"), self._claims)
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[process] = shares
        return shares

    def claims(self) -> set[ClaimUid]:
        """The claims of which some process that can be seen has a share with files."""
        return {uid for path in self._proc.iterdir() if path.name.isdecimal() for uid, _ in self(int(path.name))}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _started(stat: str) -> str:
    """When the process started: a pid that is used again is another process.  The name before it may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""  # noqa: PLR2004 - field 22 of proc_pid_stat(5), counted behind the name
