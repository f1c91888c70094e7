"""Which shares a process has, and which container of a pod it is of, read from its mounts.

Every container of a share has the share's usage file mounted at `/run/hami/<share>/usage`, straight from the node's state
directory.  `/proc/<pid>/mountinfo` names that file by device and by path within its file system; neither can be forged by
who cannot write the state directory itself.  That beats cgroup paths, whose form depends on runtime, driver and version,
and lists of pods, which grow after Prepare.  Kubelet gives each container a file for its last words in a directory that is called
after the container; where that is mounted says what the container is called.  Source: proc_pid_mountinfo(5), kubelet's
`makeMounts` and `GetPodContainerDir`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hami_dra.api.names import CONTAINER_SHARES_DIR
from hami_dra.core.ids import ClaimUid, ShareKey

__all__ = ["Place", "container_of", "locate", "shares_of"]

_LINE = re.compile(r"\d+ \d+ (?P<device>\d+:\d+) (?P<root>/\S*) (?P<point>/\S*) ")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """A file or directory, whatever path leads there."""

    device: str
    """`major:minor` of its file system."""
    path: str
    """Within the file system."""


def locate(mountinfo: str, path: str) -> Place | None:
    """Where `path` lies for a process with these mounts; None where no mount leads there."""
    best: tuple[str, Place] | None = None
    for device, root, point in _mounts(mountinfo):
        below = _below(path, point)
        # Of two mounts on one point the later one covers the earlier.
        if below is not None and (best is None or len(point) >= len(best[0])):
            best = (point, Place(device, _join(root, below)))
    return best[1] if best else None


def shares_of(mountinfo: str, claims: Place) -> frozenset[tuple[ClaimUid, ShareKey]]:
    """The shares whose usage files are mounted where a container has them; `claims` is the directory of all claims."""
    found = set()
    for device, root, point in _mounts(mountinfo):
        if device != claims.device or not point.startswith(f"{CONTAINER_SHARES_DIR}/"):
            continue
        parts = (_below(root, claims.path) or "").split("/")
        if len(parts) == 3 and parts[2] == "usage" and point == f"{CONTAINER_SHARES_DIR}/{parts[1]}/usage":  # noqa: PLR2004 - claim, share, file
            found.add((ClaimUid(parts[0]), ShareKey(parts[1])))
    return frozenset(found)


def container_of(mountinfo: str, kubelet: Place) -> str | None:
    """The container's name in its pod; None outside of containers.  `kubelet` is kubelet's directory."""
    for device, root, _ in _mounts(mountinfo):
        parts = (_below(root, kubelet.path) or "").split("/")
        # pods/<uid>/containers/<name>/<file>
        if device == kubelet.device and len(parts) == 5 and (parts[0], parts[2]) == ("pods", "containers"):  # noqa: PLR2004 - as above
            return parts[3]
    return None


def _mounts(mountinfo: str) -> Iterable[tuple[str, str, str]]:
    for line in mountinfo.splitlines():
        if (match := _LINE.match(line)) is not None:
            yield match["device"], _plain(match["root"]), _plain(match["point"])


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def _below(path: str, directory: str) -> str | None:
    """The rest of `path` below `directory`, "" for the directory itself."""
    prefix = directory.rstrip("/") + "/"
    if path == directory:
        return ""
    return path[len(prefix) :] if path.startswith(prefix) else None


def _join(root: str, below: str) -> str:
    return f"{root.rstrip('/')}/{below}" if below else root
