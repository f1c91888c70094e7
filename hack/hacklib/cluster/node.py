"""The first process of a node's namespaces: containerd, kubelet and kube-proxy on a network and file system of their own.

Started by the control plane with the cluster's folder and the node's number; says that its namespaces exist by a
file, and why it gave up by another.
"""

import http
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from hacklib.cluster import cgroups, components, network, node_files
from hacklib.cluster.processes import Processes
from hacklib.cluster.spec import ClusterSpec, Node
from hacklib.ui import HackError

__all__ = ["main"]


def main(folder: str, index: str) -> None:
    """Run a node until its namespaces end."""
    node = ClusterSpec.load(Path(folder)).node(int(index))
    processes = Processes(folder=node.folder, logs=node.spec.logs, log_prefix=f"{node.name}-")
    processes.works = {"containerd": _containerd_works, "kubelet": _kubelet_works}
    try:
        _start(node, processes)
    except (HackError, OSError, subprocess.SubprocessError) as error:
        (node.folder / "error").write_text(f"{node.name}: {error}", encoding="utf-8")
        raise
    processes.serve()


def _start(node: Node, processes: Processes) -> None:
    socket.sethostname(node.name)
    node_files.mount_all(node)
    node.up_file.touch()
    processes.wait_for("the node's network", network.has_link)
    network.make_node_link(node)
    (node.folder / "containerd.toml").write_text(components.containerd_config(node), encoding="utf-8")
    (node.folder / "kubelet.json").write_text(components.kubelet_config(node), encoding="utf-8")
    (node.folder / "cni/10-pods.conflist").write_text(components.cni_config(node), encoding="utf-8")
    _divide_cpus(node)
    processes.start(components.containerd(node))
    processes.wait_for("containerd", _containerd_works)
    if not node.loaded_file.exists():
        for archive in node.spec.images:
            processes.begin(components.image_import(node, archive))
    processes.wait_for("the API server", node.spec.api_ready_file.exists)
    processes.start(components.kubelet(node))
    processes.start(components.kube_proxy(node))
    processes.finish()
    node.loaded_file.touch()
    node.started_file.touch()


def _divide_cpus(node: Node) -> None:
    """As systemd does on a real node: pods on one side, kubelet and runtime on the other, so that neither starves."""
    cgroups.remove(node.cgroup)  # of a former life: kubelet would look for the containers of each cgroup that it finds
    cgroups.make(node.cgroup)
    cgroups.weigh(node.cgroup, cpus=os.cpu_count() or 1)
    cgroups.join(f"{node.cgroup}/system")


def _kubelet_works() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=2) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except OSError:
        return False


def _containerd_works() -> bool:
    words = ["ctr", "-a", components.CONTAINERD_SOCKET, "version"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    os.chdir("/")
    main(*sys.argv[1:])
