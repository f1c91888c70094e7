"""Names of the two sockets on which kubelet finds this instance.

With the pod's UID in the names, two instances overlap during a rolling update and kubelet knows both (1.33+).  A socket's path
fits into 108 bytes, terminator included, so long names give way to hashes.  Also here: removing what dead instances left,
because kubelet goes on dialling every socket file that lies in its registry.
"""

import base64
import hashlib
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import NodeStateError

__all__ = ["DeadSockets", "SocketPaths", "socket_paths"]

_MAX_PATH = 107
_SETTLED_S = 10.0
_CONNECT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketPaths:
    """Where this instance listens; kubelet must see the same paths on the host."""

    plugin: Path
    registration: Path


def socket_paths(*, plugin_dir: Path, registry_dir: Path, pod_uid: str, driver: str = DRIVER) -> SocketPaths:
    """The first names that fit.

    Args:
        plugin_dir: the driver's own directory below kubelet's.
        registry_dir: the directory that kubelet watches.
        pod_uid: of this instance's pod; empty outside of one.
        driver: its name.

    Raises:
        NodeStateError: a directory's path is too long for any socket in it.
    """
    if not pod_uid:
        return SocketPaths(
            plugin=_fitting(plugin_dir, "dra.sock"), registration=_fitting(registry_dir, f"{driver}-reg.sock")
        )
    short = base64.urlsafe_b64encode(hashlib.sha256(pod_uid.encode()).digest()[:8]).rstrip(b"=").decode()
    return SocketPaths(
        plugin=_fitting(plugin_dir, f"dra-{pod_uid}.sock", f"dra-{short}.sock"),
        registration=_fitting(registry_dir, f"{driver}-{pod_uid}-reg.sock", f"{driver}-{short}-reg.sock"),
    )


class DeadSockets:
    """Socket files of this driver on which nobody listens; those of this instance are not touched.

    A file that was just made may be about to listen, so one goes only when nobody listened twice, some seconds apart by this
    process's own clock: a file's times are the wall clock's, which may jump.
    """

    def __init__(self, paths: SocketPaths, *, driver: str = DRIVER, clock: Clock = SYSTEM_CLOCK) -> None:
        self._paths = paths
        self._driver = driver
        self._clock = clock
        self._next_s = clock.monotonic()
        self._suspects: set[tuple[Path, int]] = set()
        """Path and inode of those on which nobody listened at the last look."""

    def remove(self) -> list[Path]:
        """Look, unless that was done a moment ago, and remove what was dead before and still is; gives it."""
        now_s = self._clock.monotonic()
        if now_s < self._next_s:
            return []
        self._next_s = now_s + _SETTLED_S
        suspects = {(path, inode) for path in self._others() if (inode := _dead_inode(path)) is not None}
        dead = sorted(path for path, _ in suspects & self._suspects)
        self._suspects = suspects
        for path in dead:
            path.unlink(missing_ok=True)
        return dead

    def _others(self) -> set[Path]:
        found = {
            *self._paths.plugin.parent.glob("dra*.sock"),
            *self._paths.registration.parent.glob(f"{self._driver}-*reg.sock"),
        }
        return found - {self._paths.plugin, self._paths.registration}


def _dead_inode(path: Path) -> int | None:
    """The inode of a socket file on which nobody listens."""
    try:
        status = path.lstat()
        if not stat.S_ISSOCK(status.st_mode):
            return None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_CONNECT_S)
            client.connect(str(path))
    except ConnectionRefusedError:
        return status.st_ino
    except OSError:
        return None
    return None


def _fitting(directory: Path, *names: str) -> Path:
    for name in names:
        if len(str(directory / name).encode()) <= _MAX_PATH:
            return directory / name
    raise NodeStateError(
        f"the path {directory / names[-1]} is longer than the {_MAX_PATH} bytes that a socket may have; use a shorter directory"
    )
