"""Node plugins and what they publish, node by node."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hami_dra.api.k8s import Device, JsonObject
from hami_dra.api.names import ATTRIBUTE_MODE
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.view import ClusterView, Unknown, installed
from hami_dra.core.ids import NodeName
from hami_dra.core.slices import pool_name

__all__ = ["is_ready", "judge_plugins", "judge_slices", "pods_of"]


def judge_plugins(view: ClusterView) -> list[Finding]:
    """Whether one runs on each node that is to have one, and is registered with its kubelet."""
    check = "node-plugins"
    if isinstance(view.workloads, Unknown) or isinstance(view.pods, Unknown):
        why = " ".join(each.why for each in (view.workloads, view.pods) if isinstance(each, Unknown))
        return [warning(check, f"not looked at: {why}", "ask as somebody who may list daemonsets and pods")]
    plugin = installed(view.workloads).plugin
    if plugin is None:
        advice = "install the chart there, or say with --namespace where it is installed"
        return [problem(check, f"there is no node plugin in namespace {view.namespace}", advice)]
    if plugin.wanted == 0:
        advice = "look at its nodeSelector, affinity and tolerations (values node.*)"
        return [warning(check, f"DaemonSet {view.namespace}/{plugin.name} is for no node of this cluster", advice)]
    pods = pods_of(view.pods, component="node")
    ill = [_ill(view.namespace, node, pod) for node, pod in sorted(pods.items()) if not is_ready(pod)]
    if (missing := plugin.wanted - len(pods)) > 0:
        advice = f"kubectl -n {view.namespace} describe daemonset {plugin.name}"
        ill.append(problem(check, f"{missing} nodes have no pod of DaemonSet {plugin.name} yet", advice))
    return ill or [ok(check, f"{len(pods)} of {plugin.wanted} are registered with kubelet and publish")]


def pods_of(pods: Sequence[JsonObject], *, component: str) -> dict[str, JsonObject]:
    """A component's pod of each node; where an update has two overlap, one that is ready."""
    found: dict[str, JsonObject] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName")
        labels = pod["metadata"].get("labels") or {}
        if not node or labels.get("app.kubernetes.io/component") != component or "deletionTimestamp" in pod["metadata"]:
            continue
        if node not in found or is_ready(pod):
            found[node] = pod
    return found


def is_ready(pod: JsonObject) -> bool:
    """Whether its probes say so."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _ill(namespace: str, node: str, pod: JsonObject) -> Finding:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    states = [each.get("state", {}) for each in status.get("containerStatuses") or []]
    waiting = [state["waiting"].get("reason", "") for state in states if "waiting" in state]
    if waiting:
        advice = f"kubectl -n {namespace} describe pod {name}; kubectl -n {namespace} logs {name} --previous"
        return problem("node-plugins", f"{node}: pod {name} waits: {', '.join(waiting)}", advice)
    if any("running" in state for state in states):
        advice = f"kubectl -n {namespace} exec {name} -- hami-dra doctor --node"
        return problem("node-plugins", f"{node}: pod {name} is not registered or does not publish", advice)
    found = f"{node}: pod {name} is {status.get('phase', 'Pending')}"
    return problem("node-plugins", found, f"kubectl -n {namespace} describe pod {name}")


def judge_slices(view: ClusterView) -> list[Finding]:
    """A line for each node, and one for each of its faults."""
    check = "slices"
    if isinstance(view.slices, Unknown):
        return [warning(check, f"not looked at: {view.slices.why}", "ask as somebody who may list resourceslices")]
    plugins = None if isinstance(view.pods, Unknown) else pods_of(view.pods, component="node")
    by_node: dict[str, list[JsonObject]] = {node: [] for node in plugins or ()}
    for each in view.slices:
        by_node.setdefault(each["spec"].get("nodeName", "(no node)"), []).append(each)
    return [
        finding
        for node, slices in sorted(by_node.items())
        for finding in _node(node, slices, has_plugin=plugins is None or node in plugins)
    ]


def _node(node: str, slices: Sequence[JsonObject], *, has_plugin: bool) -> list[Finding]:
    check = "slices"
    if not slices:
        advice = "run hami-dra doctor --node in its node plugin's pod: the driver may be missing"
        return [problem(check, f"{node}: nothing is published", advice)]
    findings = []
    if not has_plugin:
        advice = "have the node plugin run there again, or delete the slices: pods are sent there and cannot start"
        findings.append(problem(check, f"{node}: slices, but no node plugin", advice))
    newest = _newest_generation(slices)
    for pool, current in newest.items():
        wanted = current[0]["spec"]["pool"]["resourceSliceCount"]
        if len(current) != wanted:
            found = f"{node}: pool {pool} has {len(current)} of {wanted} slices: nothing of it is allocated"
            findings.append(problem(check, found, "if that stays for a minute, see the node plugin's log"))
        if pool != pool_name(NodeName(node)):
            found = f"{node}: pool {pool} is not {pool_name(NodeName(node))}"
            findings.append(warning(check, found, "somebody else wrote it: delete these slices"))
    devices = [
        device for current in newest.values() for each in current for device in each["spec"].get("devices") or []
    ]
    return [*findings, *_tainted(node, devices), *([] if findings else [_sound(node, slices, devices)])]


def _newest_generation(slices: Iterable[JsonObject]) -> dict[str, list[JsonObject]]:
    """The slices of each pool that count."""
    newest: dict[str, list[JsonObject]] = {}
    for each in sorted(slices, key=lambda it: -int(it["spec"]["pool"]["generation"])):
        pool: Mapping[str, Any] = each["spec"]["pool"]
        same = newest.setdefault(pool["name"], [])
        if not same or same[0]["spec"]["pool"]["generation"] == pool["generation"]:
            same.append(each)
    return newest


def _tainted(node: str, devices: Iterable[Device]) -> list[Finding]:
    return [
        warning(
            "slices",
            f"{node}: {device['name']} has taint {taint['key']}={taint.get('value', '')}:{taint['effect']}",
            "docs/health.md says what the fault is and what ends it",
        )
        for device in devices
        for taint in device.get("taints") or []
        if taint["effect"] != "None"
    ]


def _sound(node: str, slices: Sequence[JsonObject], devices: Sequence[Device]) -> Finding:
    modes: dict[str, int] = {}
    for device in devices:
        mode = device.get("attributes", {}).get(ATTRIBUTE_MODE, {}).get("string", "no mode")
        modes[mode] = modes.get(mode, 0) + 1
    said = (
        ", ".join(f"{count} of mode {mode}" for mode, count in sorted(modes.items())) or "no device: there is no card"
    )
    generation = max(each["spec"]["pool"]["generation"] for each in slices)
    return ok("slices", f"{node}: {said} (generation {generation}, {len(slices)} slices)")
