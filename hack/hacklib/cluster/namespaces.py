"""Processes and namespaces: who is the first process of a namespace, how to enter it, whether a process is still the one it was.

`unshare` and `nsenter` of util-linux do the work where a program is to be started; the calling thread alone can join
a network by `join_network`.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hacklib.ui import HackError

__all__ = ["NEW_CLUSTER", "NEW_NODE", "ProcessId", "child_of", "enter", "join_network"]

NEW_CLUSTER = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
NEW_NODE = ("unshare", "--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, kw_only=True)
class ProcessId:
    """A process, told from a later one of the same number by when it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this number now, or None; a zombie counts as none."""
        try:
            state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else cls(pid=pid, started=rest[18])

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return ProcessId.of(self.pid) == self

    def save(self, path: Path) -> None:
        """Write it down for `load`, whole or not at all."""
        fresh = path.with_suffix(".new")
        fresh.write_text(f"{self.pid} {self.started}", encoding="utf-8")
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ProcessId | None":
        """What `save` wrote, or None if there is no such file."""
        try:
            pid, started = path.read_text(encoding="utf-8").split()
        except OSError:
            return None
        return cls(pid=int(pid), started=started)


def child_of(pid: int) -> int | None:
    """A child of a process that has one at most: for `unshare --fork`, the first process of the new namespaces."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8")
            except OSError:
                continue
            if stat.rpartition(")")[2].split()[1] == str(pid):
                return int(entry.name)
    return None


def enter(pid: int, *, hostname: bool = False) -> list[str]:
    """The words before a command that make it run in the namespaces of a process, in the present directory."""
    spaces = ["--net", "--mount", "--pid", *(["--uts"] if hostname else [])]
    return ["nsenter", f"--target={pid}", *spaces, f"--wd={Path.cwd()}", "--"]


@contextmanager
def join_network(pid: int) -> Iterator[None]:
    """Give the calling thread, and threads that it starts, the network of a process until the block ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        _set_namespace(libc, theirs)
        os.close(theirs)
        try:
            yield
        finally:
            _set_namespace(libc, ours)
    finally:
        os.close(ours)


def _set_namespace(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise HackError(f"the cluster's network cannot be joined: {os.strerror(ctypes.get_errno())}")
