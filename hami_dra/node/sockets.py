"""Names of the two sockets on which kubelet finds this instance.

With the pod's UID in the names, two instances overlap during a rolling update and kubelet knows both (1.33+).  A socket's path
fits into 108 bytes, terminator included, so long names give way to hashes.  Also here: removing what dead instances left,
because kubelet goes on dialling every socket file that lies in its registry.
"""

import base64
import hashlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from hami_dra.api.names import DRIVER
from hami_dra.core.errors import NodeStateError

__all__ = ["SocketPaths", "remove_dead_sockets", "socket_paths"]

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


def remove_dead_sockets(paths: SocketPaths, *, driver: str = DRIVER) -> list[Path]:
    """Remove socket files of this driver on which nobody listens; gives them.  Those of this instance are not touched."""
    found = [*paths.plugin.parent.glob("dra*.sock"), *paths.registration.parent.glob(f"{driver}-*reg.sock")]
    dead = [path for path in found if path not in {paths.plugin, paths.registration} and _is_dead(path)]
    for path in dead:
        path.unlink(missing_ok=True)
    return dead


def _is_dead(path: Path) -> bool:
    try:
        if not path.is_socket() or time.time() - path.lstat().st_mtime < _SETTLED_S:
            return False  # a young one may be about to listen
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_CONNECT_S)
            client.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _fitting(directory: Path, *names: str) -> Path:
    for name in names:
        if len(str(directory / name).encode()) <= _MAX_PATH:
            return directory / name
    raise NodeStateError(
        f"the path {directory / names[-1]} is longer than the {_MAX_PATH} bytes that a socket may have; use a shorter directory"
    )
