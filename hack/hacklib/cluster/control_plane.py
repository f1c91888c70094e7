"""The first process of a cluster's namespaces: the network, etcd, the API server and its clients, and one child for each node.

Started by the keeper.  It ends when the keeper closes its end of the lifeline, hence also when the keeper is killed,
and then leaves nothing: its end is the end of all processes in its namespace, and it removes the rest before.
"""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from hacklib import paths
from hacklib.cluster import cgroups, cleanup, components, namespaces, network, node_files
from hacklib.cluster.components import Component
from hacklib.cluster.processes import Processes
from hacklib.cluster.spec import API_ADDRESS, ClusterSpec, Node
from hacklib.ui import HackError

__all__ = ["main"]

_NODES_DEADLINE_S = 120.0
_DEFAULT_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
"""Without it no pod is admitted; the controller-manager makes it."""


def main(folder: str, lifeline: str) -> None:
    """Run a cluster until the lifeline is cut."""
    spec = ClusterSpec.load(Path(folder))
    processes = Processes(folder=spec.folder, logs=spec.logs)
    processes.works = {node.name: node.started_file.exists for node in _nodes(spec)}
    processes.works |= {"kube-apiserver": lambda: _get(spec, "/readyz") is not None}
    processes.before_start = lambda name: _make_room(spec, name)
    processes.after_start = lambda name, pid: _settle(spec, processes, name=name, pid=pid)
    cgroups.make(spec.cgroup)
    cgroups.weigh(spec.cgroup, cpus=os.cpu_count() or 1)
    try:
        _start(spec, processes)
    except (HackError, OSError, subprocess.SubprocessError) as error:
        (spec.folder / "error").write_text(str(error), encoding="utf-8")
    else:
        spec.say("ready")
    processes.serve(lifeline=int(lifeline))
    _end(spec)


def _start(spec: ClusterSpec, processes: Processes) -> None:
    spec.say("starting etcd and the API server")
    network.make_bridge()
    processes.start(components.etcd(spec))
    processes.start(components.api_server(spec))
    for node in _nodes(spec):
        processes.start(_node_component(node))
    processes.wait_for("the API server", lambda: _get(spec, "/readyz") is not None)
    spec.api_ready_file.touch()
    for component in components.control_plane_clients(spec):
        processes.start(component)
    processes.wait_for("the service account of pods", lambda: _get(spec, _DEFAULT_ACCOUNT) is not None)
    processes.wait_for("the nodes", lambda: _nodes_ready(spec), deadline_s=_NODES_DEADLINE_S)


def _node_component(node: Node) -> Component:
    module = (sys.executable, "-m", "hacklib.cluster.node", str(node.spec.folder), str(node.index))
    return Component(name=node.name, argv=(*namespaces.NEW_NODE, *module))


def _make_room(spec: ClusterSpec, name: str) -> None:
    """If the component is a node, make its folders, and forget how far an earlier run of it got."""
    for node in _nodes(spec):
        if node.name == name:
            node_files.prepare(node)
            for file in (node.up_file, node.started_file):
                file.unlink(missing_ok=True)


def _settle(spec: ClusterSpec, processes: Processes, *, name: str, pid: int) -> None:
    """Put a new component where it belongs.

    The control plane gets the CPU time of a machine of its own; a node is connected to the network once it has one, and its
    first process is written down.
    """
    if name not in {node.name for node in _nodes(spec)}:
        cgroups.join(spec.control_plane_cgroup, pid=pid)
        cgroups.weigh(spec.control_plane_cgroup, cpus=os.cpu_count() or 1)
    for node in _nodes(spec):
        if node.name == name:
            processes.wait_for(f"namespaces of {name}", node.up_file.exists, only=name)
            network.attach_node(node, pid=pid)
            if (first := namespaces.child_of(pid)) is None:
                raise HackError(f"{name} has no first process")
            (node.folder / "pid").write_text(str(first), encoding="utf-8")


def _nodes(spec: ClusterSpec) -> list[Node]:
    return [spec.node(index) for index in range(1, spec.nodes + 1)]


def _nodes_ready(spec: ClusterSpec) -> bool:
    for node in _nodes(spec):
        error = node.folder / "error"
        if error.exists():
            raise HackError(error.read_text(encoding="utf-8"))
    listed = json.loads(_get(spec, "/api/v1/nodes") or '{"items": []}')["items"]
    conditions = [condition for item in listed for condition in item["status"].get("conditions", [])]
    started = all(node.started_file.exists() for node in _nodes(spec))
    ready: int = sum(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    spec.say(f"waiting for nodes ({ready} of {spec.nodes} Ready)" if ready < spec.nodes else "loading images")
    return started and ready == spec.nodes


def _get(spec: ClusterSpec, path: str) -> bytes | None:
    """The body of a successful GET from the API server, or None."""
    config = json.loads(spec.kubeconfig.read_text(encoding="utf-8"))
    context = ssl.create_default_context(cafile=str(spec.pki / "ca.crt"))
    connection = http.client.HTTPSConnection(API_ADDRESS, 443, timeout=5, context=context)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if response.status == http.HTTPStatus.OK else None


def _end(spec: ClusterSpec) -> None:
    """Nobody keeps the cluster any more: end everything and remove what does not end by itself."""
    while True:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
        time.sleep(0.01)
    cleanup.remove(spec.folder, cgroup=spec.cgroup)


if __name__ == "__main__":
    os.chdir(paths.REPOSITORY)
    main(*sys.argv[1:])
