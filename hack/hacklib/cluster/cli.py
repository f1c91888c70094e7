"""The command line of `hack/cluster`."""

import argparse
import os
import sys
from pathlib import Path
from typing import get_args

from hacklib.cluster import launch
from hacklib.cluster.cluster import Cluster
from hacklib.cluster.processes import Verb
from hacklib.cluster.spec import cluster_name, folder_of, parse_gates, parse_mount
from hacklib.ui import HackError, Ui

__all__ = ["main", "parser"]

_LOG_LINES = 20


def main() -> int:
    """Do what the command line says."""
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    arguments, command = parser().parse_args(words[:cut]), words[cut + 1 :]
    if command and arguments.verb != "exec":
        raise HackError(f"`hack/cluster {arguments.verb}` takes no command after --")
    return _run(arguments, command)


def parser() -> argparse.ArgumentParser:
    """The command line's grammar; a command for `exec` is cut off before."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", default="default", help="which cluster; several may run at once")
    top = argparse.ArgumentParser(prog="hack/cluster", description="Real Kubernetes clusters in throw-away namespaces.")
    verbs = top.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", parents=[common], help="start a cluster and wait until its nodes are Ready")
    up.add_argument("--nodes", type=int, default=1, metavar="N")
    up.add_argument("--kubernetes", default="1.36", metavar="VERSION", help="1.34, 1.35 or 1.36 (default)")
    up.add_argument("--feature-gates", type=parse_gates, default={}, metavar="A=true,B=false")
    up.add_argument("--image", type=Path, action="append", default=[], metavar="TAR", help="OCI archive for all nodes")
    up.add_argument("--node-mount", type=parse_mount, action="append", default=[], metavar="NODE:SRC:DST")
    run = verbs.add_parser(
        "exec", parents=[common], help="run a command inside: hack/cluster exec -- kubectl get nodes"
    )
    run.add_argument("--node", type=int, metavar="I", help="inside this node, counted from 1")
    load = verbs.add_parser("load-image", parents=[common], help="load OCI archives into all nodes")
    load.add_argument("archive", type=Path, nargs="+", metavar="TAR")
    logs = verbs.add_parser("logs", parents=[common], help="the whole log of a component, or the end of all")
    logs.add_argument("component", nargs="?")
    verbs.add_parser("status", parents=[common], help="the state of each component")
    for verb in get_args(Verb):
        if verb != "list":
            act = verbs.add_parser(verb, parents=[common], help=f"{verb} a component, for instance node-1/kubelet")
            act.add_argument("component")
    verbs.add_parser("down", parents=[common], help="end the cluster and remove all traces")
    return top


def _run(arguments: argparse.Namespace, command: list[str]) -> int:
    verb: str = arguments.verb
    if verb == "up":
        return _up(arguments)
    if verb == "down":
        launch.stop(folder_of(cluster_name(arguments.name)))
        return 0
    cluster = Cluster.open(arguments.name)
    if verb == "exec":
        if not command:
            raise HackError("`hack/cluster exec` needs a command after --")
        argv = [*cluster.words(node=arguments.node), *command]
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted
    elif verb == "load-image":
        for archive in arguments.archive:
            cluster.load_image(archive)
    elif verb == "logs":
        _logs(cluster, arguments.component)
    elif verb == "status":
        for name, state in cluster.components().items():
            print(f"{name:40} {state}")
    else:
        cluster.act(verb, arguments.component)  # type: ignore[arg-type]  # the parser allows verbs only
    return 0


def _up(arguments: argparse.Namespace) -> int:
    Cluster.up(
        name=arguments.name,
        nodes=arguments.nodes,
        kubernetes=arguments.kubernetes,
        feature_gates=arguments.feature_gates,
        images=arguments.image,
        node_mounts=arguments.node_mount,
        ui=Ui(),
    )
    option = "" if arguments.name == "default" else f" --name {arguments.name}"
    print(f"hack/cluster exec{option} -- kubectl get nodes\nhack/cluster down{option}")
    return 0


def _logs(cluster: Cluster, component: str | None) -> None:
    files = cluster.logs()
    if component is None:
        for name, path in files.items():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
            print(f"==> {name} <==", *lines, sep="\n")
    elif (wanted := component.replace("/", "-")) in files:
        print(files[wanted].read_text(encoding="utf-8", errors="replace"), end="")
    else:
        raise HackError(f"there is no log of {component!r}; there are {', '.join(files)}")
