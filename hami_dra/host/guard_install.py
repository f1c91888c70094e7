"""Installs the guard on the node: `guard/<build>/{libhami_guard.so,ld.so.preload}`.

A build is named by the hash of the library, so an upgrade adds a directory and never changes a file that a running container
has mounted.  Invariant: a directory of that name is complete, because it is renamed into place, and is never written again.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from hami_dra.api.names import CONTAINER_GUARD
from hami_dra.host.files import make_directory, node_state_error, write_atomic

__all__ = ["guard_build", "install_guard"]

_BUILD_LENGTH = 12
_READABLE = 0o644
_LOADABLE = 0o755


def install_guard(library: Path, *, guard_dir: Path) -> str:
    """Install the library if its build is not installed yet; gives the name of its directory below `guard_dir`.

    Raises:
        NodeStateError: the library cannot be read, or the directory cannot be written.
    """
    content = _read(library)
    build = _build(content)
    target = guard_dir / build
    if not target.is_dir():
        make_directory(guard_dir, mode=0o755)
        _install(content, target)
    return build


def guard_build(library: Path) -> str:
    """The name of the library's build, installed or not.

    Raises:
        NodeStateError: the library cannot be read.
    """
    return _build(_read(library))


def _read(library: Path) -> bytes:
    try:
        return library.read_bytes()
    except OSError as error:
        raise node_state_error("read the guard", library, error) from error


def _build(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_BUILD_LENGTH]


def _install(content: bytes, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    make_directory(temporary, mode=0o755)
    write_atomic(temporary / "libhami_guard.so", content, mode=_LOADABLE, durable=True)
    write_atomic(temporary / "ld.so.preload", f"{CONTAINER_GUARD}\n".encode(), mode=_READABLE, durable=True)
    try:
        temporary.rename(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
        if not target.is_dir():  # else another instance was faster
            raise node_state_error("install the guard", target, error) from error
