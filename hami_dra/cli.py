"""The command line: `hami-dra node`, `mps`, `controller`, `doctor`, `top`, `config check`, `version`.

Flags only, each with its unit and default; what a pod knows of itself (`--node-name`, `--pod-uid`, `--namespace`) may come
from the environment that the chart sets.  What the processes are made of is left to `app`, imported when asked for: a node
plugin does not pay for the controller's parts.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hami_dra import __version__
from hami_dra._lib.jsonlog import configure
from hami_dra.core.errors import HamiDraError, NodeStateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hami_dra._lib.threads import Group
    from hami_dra.app.node import NodeOptions
    from hami_dra.core.doctor import Finding
    from hami_dra.kube.transport import Transport

__all__ = ["main"]

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; the exit status: 0 done, 1 failed, 2 unusable arguments."""
    options = _parser().parse_args(arguments)
    if options.command == "version":
        print(__version__)
        return 0
    if options.command == "config":
        from hami_dra.app.config_check import check_config  # noqa: PLC0415 - see the module

        return check_config(options.file, labels=dict(options.label) if options.label else None)
    if options.command == "top":
        return _top(options)
    if options.command == "doctor":
        return _doctor(options)
    configure(level=options.log_level, stream=sys.stderr)
    try:
        return {"node": _node, "mps": _mps, "controller": _controller}[options.command](options)
    except HamiDraError as error:
        _log.error("cannot start: %s", error.explain())
        return 1


def _top(options: argparse.Namespace) -> int:
    from hami_dra.app.top import TopOptions, pages_of_cluster, pages_of_url, show_top  # noqa: PLC0415 - see the module

    try:
        if options.url:
            pages = pages_of_url(options.url)
        else:
            pages = pages_of_cluster(_transport(options), namespace=options.namespace, port=options.metrics_port)
        return show_top(pages, TopOptions(interval_s=options.interval, once=options.once))
    except (HamiDraError, ValueError) as error:
        print(f"hami-dra top: {error}", file=sys.stderr)
        return 1


def _doctor(options: argparse.Namespace) -> int:
    from hami_dra.app.doctor import examine_cluster, tell  # noqa: PLC0415 - see the module

    try:
        findings = (
            _examine_node() if options.node else examine_cluster(_transport(options), namespace=options.namespace)
        )
    except HamiDraError as error:
        print(f"hami-dra doctor: {error}", file=sys.stderr)
        return 2
    return tell(findings, as_json=options.output == "json", out=sys.stdout)


def _examine_node() -> list[Finding]:
    """With the options of the node plugin that runs beside."""
    from hami_dra.app.doctor_node import examine_node  # noqa: PLC0415 - see the module
    from hami_dra.host.inspect import plugin_process  # noqa: PLC0415

    pod_uid = os.environ.get("POD_UID", "")
    found = plugin_process(pod_uid)
    if found is None:
        raise NodeStateError(
            f"no node plugin of pod {pod_uid or '($POD_UID is not set)'} runs beside this process: "
            "kubectl -n hami-system exec POD -- hami-dra doctor --node, with POD a node plugin's"
        )
    pid, words = found
    return examine_node(_node_options(_parser().parse_args(words)), pid=pid)


def _node(options: argparse.Namespace) -> int:
    from hami_dra.app.node import start_node  # noqa: PLC0415 - see the module
    from hami_dra.app.process import run_process  # noqa: PLC0415

    chosen, transport = _node_options(options), _transport(options)
    return run_process("node", lambda group: start_node(group, chosen, transport))


def _node_options(options: argparse.Namespace) -> NodeOptions:
    from hami_dra.app.node import NodeOptions  # noqa: PLC0415 - see the module
    from hami_dra.app.node_config import ConfigOptions  # noqa: PLC0415
    from hami_dra.core.settings import CardSettings  # noqa: PLC0415

    return NodeOptions(
        node_name=options.node_name,
        pod_uid=options.pod_uid,
        source=options.source,
        driver_root=options.driver_root,
        host_driver_root=options.host_driver_root or options.driver_root,
        device_root=options.device_root,
        host_device_root=options.host_device_root or options.device_root or Path("/"),
        kubelet_root=options.kubelet_root,
        cdi_dir=options.cdi_dir,
        state_dir=options.state_dir,
        mps_shm_dir=options.mps_shm_dir,
        cgroup_root=options.cgroup_root,
        guard=options.guard,
        settings=CardSettings(slots=options.slots),
        config=ConfigOptions(namespace=options.namespace, config_map=options.config_map, key=options.config_key),
        health_port=options.health_port,
        metrics_port=options.metrics_port,
        attribution=options.attribution,
        stale_claim_grace_s=options.stale_claim_grace,
    )


def _mps(options: argparse.Namespace) -> int:
    from hami_dra.app.mps import MpsOptions, start_mps  # noqa: PLC0415 - see the module
    from hami_dra.app.process import run_process  # noqa: PLC0415

    chosen = MpsOptions(state_dir=options.state_dir, driver_root=options.driver_root, shm=options.shm)
    return run_process("mps", lambda group: start_mps(group, chosen))


def _controller(options: argparse.Namespace) -> int:
    from hami_dra.app.controller import ControllerOptions, start_controller  # noqa: PLC0415 - see the module
    from hami_dra.app.process import run_process  # noqa: PLC0415

    chosen = ControllerOptions(
        namespace=options.namespace,
        identity=options.identity,
        lease_name=options.lease_name,
        metrics_port=options.metrics_port,
    )

    transport = _transport(options)

    def start(group: Group) -> None:
        start_controller(group, chosen, transport)

    return run_process("controller", start)


def _transport(options: argparse.Namespace) -> Transport:
    from hami_dra.kube.client import ClusterTransport, in_cluster, kubeconfig  # noqa: PLC0415 - see the module

    return ClusterTransport(kubeconfig(options.kubeconfig) if options.kubeconfig else in_cluster())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hami-dra", description="GPU sharing through Dynamic Resource Allocation.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("version", help="print the version")
    _add_node(commands.add_parser("node", help="the kubelet plugin of one node"))
    _add_mps(commands.add_parser("mps", help="keeps the control daemons of NVIDIA's MPS on one node"))
    _add_controller(commands.add_parser("controller", help="the cluster's resolver of claims"))
    _add_top(commands.add_parser("top", help="what the shares of the cluster use, live"))
    _add_doctor(
        commands.add_parser("doctor", help="what this cluster or this node offers, what is wrong, and what to do")
    )
    _add_config(commands.add_parser("config", help="look at a node configuration before it is applied"))
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", type=Path, help="default: the pod's service account")
    parser.add_argument("--metrics-port", type=_port, default=8080, help="of /metrics over HTTP; default %(default)s")
    _add_log_level(parser)


def _add_node(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    name, uid, namespace = (os.environ.get(variable) for variable in ("NODE_NAME", "POD_UID", "POD_NAMESPACE"))
    parser.add_argument("--node-name", default=name, required=not name, help="default: $NODE_NAME")
    parser.add_argument("--pod-uid", default=uid, required=not uid, help="makes the sockets unique; default: $POD_UID")
    parser.add_argument(
        "--source",
        choices=("nvml", "sim"),
        default="nvml",
        help="real drivers (NVIDIA through NVML, AMD through sysfs) or simulated ones",
    )
    parser.add_argument("--driver-root", type=Path, default=Path("/"), help="where this process finds the driver")
    parser.add_argument("--host-driver-root", type=Path, help="where the runtime finds it; default: --driver-root")
    parser.add_argument("--device-root", type=Path, help="below whose dev device files lie; default: --driver-root")
    parser.add_argument("--host-device-root", type=Path, help="what the runtime calls it; default: --device-root")
    parser.add_argument("--kubelet-root", type=Path, default=Path("/var/lib/kubelet"))
    parser.add_argument("--cdi-dir", type=Path, default=Path("/var/run/cdi"))
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/hami-dra"))
    parser.add_argument(
        "--mps-shm-dir",
        type=Path,
        default=Path("/dev/shm/hami-dra"),  # noqa: S108 - of the host
        help="what the host calls the /dev/shm of hami-dra mps; default %(default)s",
    )
    parser.add_argument(
        "--cgroup-root", type=Path, default=Path("/sys/fs/cgroup"), help="where this process finds the node's cgroups"
    )
    parser.add_argument("--guard", type=Path, default=Path("/opt/hami-dra/lib/libhami_guard.so"))
    parser.add_argument(
        "--slots", type=_positive, default=10, help="tenants of one GPU, unless configured; default %(default)s"
    )
    parser.add_argument(
        "--namespace", default=namespace, required=not namespace, help="of the ConfigMap; default: $POD_NAMESPACE"
    )
    parser.add_argument(
        "--config-map", default="hami-dra-node", help="the node configuration, followed live; default %(default)s"
    )
    parser.add_argument(
        "--config-key", default="config.yaml", help="where it lies in the ConfigMap; default %(default)s"
    )
    parser.add_argument(
        "--attribution",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="tell shares apart in the driver's figures by the processes of this node: needs the host's pid namespace",
    )
    parser.add_argument(
        "--stale-claim-grace",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="for how long nobody can have used a claim before it is released; default %(default)s",
    )
    parser.add_argument("--health-port", type=_port, default=51515, help="of the gRPC health service")


def _add_mps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", type=Path, default=Path("/var/lib/hami-dra"), help="the node plugin's")
    parser.add_argument("--driver-root", type=Path, default=Path("/"), help="where this process finds the driver")
    parser.add_argument(
        "--shm",
        type=Path,
        default=Path("/dev/shm"),  # noqa: S108 - it is what daemons and clients share
        help="opened to all users, who are the daemons' clients; default %(default)s",
    )
    _add_log_level(parser)


def _add_log_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def _add_controller(parser: argparse.ArgumentParser) -> None:
    _add_common(parser)
    parser.add_argument("--namespace", required=True, help="of the lease")
    parser.add_argument("--identity", required=True, help="unique among the replicas: the pod's name")
    parser.add_argument("--lease-name", default="hami-dra-controller")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit status: 0 no problem (warnings do not count), 1 a problem, 2 nothing could be looked at."
    _add_client(parser)
    parser.add_argument(
        "--node",
        action="store_true",
        help="look at this node instead: kubectl exec it in a node plugin's pod, whose options it takes",
    )
    parser.add_argument("--output", choices=("text", "json"), default="text")


def _add_client(parser: argparse.ArgumentParser) -> None:
    file, namespace = os.environ.get("KUBECONFIG"), os.environ.get("POD_NAMESPACE", "hami-system")
    parser.add_argument(
        "--kubeconfig", type=Path, default=file, help="default: $KUBECONFIG, else the pod's service account"
    )
    parser.add_argument(
        "--namespace", default=namespace, help="of the product; default: $POD_NAMESPACE, else hami-system"
    )


def _add_top(parser: argparse.ArgumentParser) -> None:
    _add_client(parser)
    parser.add_argument("--metrics-port", type=_port, default=8080, help="of the node plugins; default %(default)s")
    parser.add_argument("--url", help="one metrics page instead, as http://127.0.0.1:8080/metrics on a node")
    parser.add_argument("--interval", type=_seconds, default=2.0, help="seconds between two looks; default %(default)s")
    parser.add_argument("--once", action="store_true", help="look twice, draw once")


def _add_config(parser: argparse.ArgumentParser) -> None:
    check = parser.add_subparsers(dest="config_command", required=True).add_parser(
        "check", help="say whether node plugins would accept it"
    )
    check.add_argument("file", help="a NodeConfig as YAML or JSON; - for standard input")
    check.add_argument(
        "--label",
        action="append",
        type=_label,
        metavar="KEY=VALUE",
        help="show the entries for a node with this label; may be repeated",
    )


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    return key, value


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:  # noqa: PLR2004 - what a port is
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.1 <= number <= 3600:  # noqa: PLR2004 - neither a busy loop nor for ever
        raise argparse.ArgumentTypeError(f"{text} must be from 0.1 to 3600")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return number
