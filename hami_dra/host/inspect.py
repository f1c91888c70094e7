"""Looks at the files of a node and at its kernel without changing anything.

For `hami-dra doctor --node`, which runs beside a node plugin that works: nothing here takes a lock, writes, or makes a file.
"""

import os
import socket
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.core.record import Entry, Phase, from_json
from hami_dra.host.files import node_state_error

__all__ = [
    "answers",
    "changed_s",
    "claim_directories",
    "free_room",
    "guard_builds",
    "is_executable",
    "obstacle_to_write",
    "open_files",
    "plugin_process",
    "read_ledger",
    "sees_processes",
]

_CONNECT_S = 2.0
_BUSY_S = 5.0
_OPEN_FILES = "Max open files"


def read_ledger(path: Path) -> list[Entry]:
    """Every row of the ledger, beside whoever writes it.

    Raises:
        NodeStateError: it is not there, or not sound.
    """
    connection = None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_S)
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        rows = connection.execute("SELECT phase, boot, record FROM claims ORDER BY uid").fetchall()
        entries = [Entry(phase=Phase(phase), boot=boot, plan=from_json(record)) for phase, boot, record in rows]
    except (sqlite3.Error, ValueError) as error:
        raise node_state_error("read the ledger", path, error) from error
    finally:
        if connection is not None:
            connection.close()
    if said != "ok":
        raise NodeStateError(f"the ledger {path} is damaged: {said}")
    return entries


def claim_directories(claims_dir: Path) -> set[ClaimUid]:
    """The claims that have share files; none where the directory cannot be read."""
    return {ClaimUid(name) for name in _names(claims_dir)}


def guard_builds(guard_dir: Path) -> set[str]:
    """The builds that are complete: those that are in the making have a name with a dot in front."""
    return {name for name in _names(guard_dir) if not name.startswith(".")}


def answers(path: Path) -> bool:
    """Whether somebody listens on the socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_CONNECT_S)
            client.connect(str(path))
    except OSError:
        return False
    return True


def obstacle_to_write(directory: Path) -> str:
    """Why no file can be made there; empty where one can, as far as that shows without making one."""
    try:
        flags = os.statvfs(directory).f_flag
    except OSError as error:
        return error.strerror or str(error)
    if flags & os.ST_RDONLY:
        return "the file system is read-only"
    return "" if os.access(directory, os.W_OK | os.X_OK) else "not permitted"


def is_executable(directory: Path) -> bool:
    """Whether libraries can be mapped from there; true where nobody can tell."""
    try:
        return not os.statvfs(directory).f_flag & os.ST_NOEXEC
    except OSError:
        return True


def changed_s(path: Path) -> float | None:
    """How long ago something came or went in the directory."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def free_room(directories: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Bytes and files that still fit, for each directory that is there; file systems without inodes have room for all files."""
    room = {}
    for directory in directories:
        try:
            stat = os.statvfs(directory)
        except OSError:
            continue
        room[str(directory)] = (stat.f_bavail * stat.f_frsize, stat.f_favail if stat.f_files else 1 << 32)
    return room


def plugin_process(pod_uid: str, *, proc: Path = Path("/proc")) -> tuple[int, list[str]] | None:
    """The node plugin of the pod with that UID: its pid, and its arguments after the program's name."""
    for path in sorted(proc.iterdir()):
        words = _words(path / "cmdline") if path.name.isdecimal() else []
        if "node" in words and f"--pod-uid={pod_uid}" in words:
            return int(path.name), words[words.index("node") :]
    return None


def open_files(pid: int, *, proc: Path = Path("/proc")) -> int | None:
    """How many files the process may have open; None where there is no limit or nobody can tell."""
    try:
        lines = (proc / str(pid) / "limits").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    soft = next((line[len(_OPEN_FILES) :].split()[0] for line in lines if line.startswith(_OPEN_FILES)), "")
    return int(soft) if soft.isdecimal() else None


def sees_processes(*, proc: Path = Path("/proc")) -> bool:
    """Whether processes of other pods can be seen: the first process that can be seen is of another cgroup than this one."""
    try:
        return (proc / "1" / "cgroup").read_bytes() != (proc / "self" / "cgroup").read_bytes()
    except OSError:
        return False


def _names(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8", errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []
