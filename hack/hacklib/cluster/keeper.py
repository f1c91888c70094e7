"""The host's side of a running cluster: one process that holds its lock, its lifeline and the duty to clean up.

The keeper starts the control plane in new namespaces and waits.  Whatever ends first (the control plane, the keeper
by a signal, or `up` before it has seen the cluster ready), all of it ends, and cgroups and the folder are removed.  A
killed keeper's work is done by the control plane, which sees its lifeline cut.
"""

import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path

from hacklib import paths
from hacklib.cluster import cleanup, namespaces
from hacklib.cluster.spec import ACCEPTED, ClusterSpec

__all__ = ["main"]


def main(folder: str, launcher: str) -> None:
    """Keep the cluster that lies in `folder` until it ends."""
    spec = ClusterSpec.load(Path(folder))
    if me := namespaces.ProcessId.of(os.getpid()):
        me.save(spec.folder / "keeper")
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    lifeline_read, lifeline_write = os.pipe()
    module = [sys.executable, "-m", "hacklib.cluster.control_plane", folder, str(lifeline_read)]
    with (spec.logs / "control-plane.log").open("ab") as log:
        child = subprocess.Popen(
            [*namespaces.NEW_CLUSTER, *module],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lifeline_read],
        )
    os.close(lifeline_read)
    _save_first(spec, child)
    _wait(wake_read=wake_read, launcher=int(launcher), child=child)
    _end(child)
    os.close(lifeline_write)
    cleanup.remove(spec.folder, cgroup=spec.cgroup)


def _save_first(spec: ClusterSpec, child: subprocess.Popen[bytes]) -> None:
    first = None
    while first is None and child.poll() is None:
        first = namespaces.child_of(child.pid)
    process = namespaces.ProcessId.of(first) if first else None
    if process:
        process.save(spec.first_process_file)


def _wait(*, wake_read: int, launcher: int, child: subprocess.Popen[bytes]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(wake_read, selectors.EVENT_READ)
        selector.register(launcher, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == launcher:
                    if os.read(launcher, 1) != ACCEPTED:
                        return
                    selector.unregister(launcher)
                elif set(os.read(wake_read, 512)) != {signal.SIGCHLD} or child.poll() is not None:
                    return


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the first process of the namespaces, hence everything in them, and wait until all are gone."""
    first = namespaces.child_of(child.pid)
    if child.poll() is None:
        os.kill(first or child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    os.chdir(paths.REPOSITORY)
    main(*sys.argv[1:])
