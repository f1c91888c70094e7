"""Starting and ending clusters: who may use a name, and how remains of the dead are found.

A cluster lives as long as its keeper holds the lock in its folder.  A folder appears under its name with the lock
already held, so that a folder whose lock is free belongs to a dead cluster, whoever looks and whenever.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from hacklib import paths
from hacklib.cluster import cleanup, pki, preflight
from hacklib.cluster.components import CONTAINERD_SOCKET
from hacklib.cluster.namespaces import ProcessId
from hacklib.cluster.node_files import PRIVATE_FOLDERS
from hacklib.cluster.spec import ACCEPTED, MAX_NODES, ClusterName, ClusterSpec, NodeMount, folder_of
from hacklib.image import oci
from hacklib.ui import HackError, Task, Ui

__all__ = ["check", "is_alive", "load_image", "start", "stop"]

_UP_DEADLINE_S = 240.0
_KEEPER_DEADLINE_S = 20.0
_DOWN_DEADLINE_S = 180.0
_IMAGE_DEADLINE_S = 20.0


def check(*, name: ClusterName, nodes: int, images: Sequence[Path], node_mounts: Sequence[NodeMount]) -> None:
    """Raise HackError if a cluster cannot be started for a reason that is known before anything is built."""
    if not 1 <= nodes <= MAX_NODES:
        raise HackError(f"{nodes} nodes: between 1 and {MAX_NODES} are possible")
    for archive in images:
        if not archive.is_file():
            raise HackError(f"image {archive} does not exist")
    for mount in node_mounts:
        if not 1 <= mount.node <= nodes:
            raise HackError(f"node mount for node {mount.node}: there are nodes 1 to {nodes}")
        private = any(Path(mount.target).is_relative_to(folder) for folder in PRIVATE_FOLDERS)
        if not (private or Path(mount.target).is_dir()):
            raise HackError(
                f"node mount on {mount.target}: make that directory on the host, or mount below {', '.join(PRIVATE_FOLDERS)}"
            )
    preflight.check()
    if is_alive(folder_of(name)):
        raise HackError(f"cluster {name} runs already: use another --name, or end it with `hack/cluster down`")


def is_alive(folder: Path) -> bool:
    """Whether somebody keeps the cluster in `folder`."""
    lock = _try_lock(folder)
    if lock is not None:
        os.close(lock)
    return lock is None and folder.is_dir()


def start(spec: ClusterSpec, *, ui: Ui) -> None:
    """Start the cluster and wait until it is ready.  Whatever goes wrong, an interrupt included, leaves nothing."""
    _bury(spec.folder)
    lock = _claim(spec)
    accept_read, accept_write = os.pipe()
    accept = os.fdopen(accept_write, "wb", buffering=0)
    try:
        with ui.task(f"cluster {spec.name}, Kubernetes {spec.kubernetes}, {spec.nodes} nodes") as task:
            _prepare(spec)
            keeper = _start_keeper(spec, lock=lock, accept=accept_read)
            _wait_until_ready(spec, keeper=keeper, task=task)
            accept.write(ACCEPTED)
    except BaseException:
        accept.close()  # the keeper ends when it sees that nobody waits
        keeper_process = ProcessId.load(spec.folder / "keeper")
        while keeper_process is not None and keeper_process.alive:
            time.sleep(0.02)
        cleanup.remove(spec.folder, cgroup=spec.cgroup)
        raise
    finally:
        accept.close()
        os.close(accept_read)
        os.close(lock)


def _start_keeper(spec: ClusterSpec, *, lock: int, accept: int) -> ProcessId:
    """Start the keeper as a child of nobody, in a session of its own, and wait until it has said who it is."""
    environment = os.environ | {
        "PATH": f"{spec.programs}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "PYTHONPATH": str(paths.REPOSITORY / "hack"),
    }
    module = [sys.executable, "-m", "hacklib.cluster.keeper", str(spec.folder), str(accept)]
    log = spec.logs / "keeper.log"
    with log.open("ab") as out:
        subprocess.run(
            ["setsid", "--fork", *module],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environment,
            pass_fds=[lock, accept],
            check=True,
        )
    end = time.monotonic() + _KEEPER_DEADLINE_S
    while (keeper := ProcessId.load(spec.folder / "keeper")) is None:
        if time.monotonic() > end:
            raise HackError(f"the cluster's keeper does not start: {log.read_text(encoding='utf-8')}")
        time.sleep(0.02)
    return keeper


def stop(folder: Path) -> None:
    """End the cluster in `folder`, or remove what is left of it."""
    if is_alive(folder) and (process := ProcessId.load(folder / "keeper")) is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        end = time.monotonic() + _DOWN_DEADLINE_S
        while process.alive:
            if time.monotonic() > end:
                raise HackError(f"the keeper of {folder} (process {process.pid}) does not end: kill it and try again")
            time.sleep(0.02)
    _bury(folder)


def load_image(archive: Path, *, run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Import an archive into the containerd that `run` reaches, and wait until its kubelet would use that very image."""
    reference, image_id = oci.identity(archive)
    run("ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", "images", "import", "--local", archive.resolve())
    end = time.monotonic() + _IMAGE_DEADLINE_S
    while image_id not in run("crictl", "inspecti", "--quiet", reference, check=False).stdout:
        if time.monotonic() > end:
            raise HackError(f"image {reference} was imported, but the node's image service does not list it")
        time.sleep(0.05)


def _claim(spec: ClusterSpec) -> int:
    """Make the cluster's folder, with its lock held by the descriptor returned."""
    spec.folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".new-{spec.name}-", dir=spec.folder.parent))
    lock = os.open(fresh / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        fresh.rename(spec.folder)
    except OSError as error:
        os.close(lock)
        shutil.rmtree(fresh)
        raise HackError(f"cluster {spec.name} has just been started by somebody else") from error
    return lock


def _prepare(spec: ClusterSpec) -> None:
    spec.logs.mkdir()
    for index in range(1, spec.nodes + 1):
        spec.node(index).folder.mkdir(parents=True)
    spec.save()
    pki.make(spec)
    spec.say("starting")


def _wait_until_ready(spec: ClusterSpec, *, keeper: ProcessId, task: Task) -> None:
    end = time.monotonic() + _UP_DEADLINE_S
    while True:
        with suppress(OSError):
            phase = spec.phase_file.read_text(encoding="utf-8")
            if phase == "ready":
                return
            task.update(phase)
        with suppress(OSError):
            raise HackError((spec.folder / "error").read_text(encoding="utf-8"))
        if not keeper.alive:
            raise HackError("the cluster's first process or its keeper was killed while it started")
        if time.monotonic() > end:
            raise HackError(f"the cluster was not ready after {_UP_DEADLINE_S:.0f} s")
        time.sleep(0.05)


def _try_lock(folder: Path) -> int | None:
    """The lock of a folder whose cluster is dead; None if it lives or there is no folder."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _bury(folder: Path) -> None:
    """Remove what a dead cluster left in `folder`, and folders of starts that never came to be."""
    for remains in [folder, *folder.parent.glob(f".new-{folder.name}-*")]:
        lock = _try_lock(remains)
        if lock is None:
            continue
        first = ProcessId.load(remains / "first-process")
        if first is not None and first.alive:
            with suppress(ProcessLookupError):
                os.kill(first.pid, signal.SIGKILL)
            while first.alive:
                time.sleep(0.02)
        with suppress(OSError, ValueError):
            cleanup.remove(remains, cgroup=ClusterSpec.load(remains).cgroup)
        shutil.rmtree(remains, ignore_errors=True)
        os.close(lock)
