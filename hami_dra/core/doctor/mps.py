"""Whether claims that want isolation MPS find the daemons that it takes, as far as the API server knows."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hami_dra.api.k8s import JsonObject, ResourceClaim
from hami_dra.api.names import CONDITION_READY, DRIVER, POOL_SUFFIX, TAINT_PREFIX
from hami_dra.api.opaque import Isolation
from hami_dra.core.allocation import read_allocation
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.supply import is_ready, pods_of
from hami_dra.core.doctor.view import ClusterView, Unknown, installed
from hami_dra.core.errors import HamiDraError, MpsNotReady
from hami_dra.core.resolve import resolve

__all__ = ["judge_mps"]

_CHECK = "mps"
_TAINT = f"{TAINT_PREFIX}mps"


@dataclass(slots=True)
class _Wishes:
    """Who wants isolation MPS."""

    classes: list[str] = field(default_factory=list)
    claims: set[str] = field(default_factory=set)
    nodes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Claims that are allocated, by node."""
    down: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    """Claims that heard that their daemon takes no clients, by node and device."""

    def __str__(self) -> str:
        """For people."""
        return ", ".join([*(f"DeviceClass {name}" for name in self.classes), *sorted(self.claims)])


def judge_mps(view: ClusterView) -> list[Finding]:
    """Whether the DaemonSet is there when it is needed, runs where it is, and its daemons take clients."""
    unknown = [each.why for each in (view.workloads, view.pods, view.claims) if isinstance(each, Unknown)]
    if isinstance(view.workloads, Unknown) or isinstance(view.pods, Unknown) or isinstance(view.claims, Unknown):
        asking = "ask as somebody who may list daemonsets, pods and resourceclaims"
        return [warning(_CHECK, f"not looked at: {' '.join(unknown)}", asking)]
    wishes = _wishes([] if isinstance(view.classes, Unknown) else view.classes, view.claims)
    keepers, found = pods_of(view.pods, component="mps"), installed(view.workloads).mps
    if found is None:
        if not str(wishes):
            return [ok(_CHECK, "no claim and no DeviceClass wants isolation MPS, and hami-dra mps is not installed")]
        advice = "install the chart again with mps.enabled=true, or have them use isolation Guard"
        return [problem(_CHECK, f"{wishes}: isolation MPS, but hami-dra mps is not installed", advice)]
    nodes = {*wishes.nodes, *pods_of(view.pods, component="node")}
    ill = [_absent(view, node, keepers.get(node), wishes) for node in sorted(nodes) if not _runs(keepers.get(node))]
    ill += _down(view, wishes)
    return ill or [ok(_CHECK, f"hami-dra mps runs on {len(keepers)} nodes, isolation MPS: {str(wishes) or 'no claim'}")]


def _wishes(classes: Iterable[JsonObject], claims: Iterable[JsonObject]) -> _Wishes:
    wishes = _Wishes(sorted(each["metadata"]["name"] for each in classes if _asks(each.get("spec") or {})))
    for claim in claims:
        name, status = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}", claim.get("status") or {}
        if "allocation" not in status:
            if _asks((claim.get("spec") or {}).get("devices") or {}):
                wishes.claims.add(name)
            continue
        for pool, device in _shares(claim):
            node = pool.removesuffix(f"/{POOL_SUFFIX}")
            wishes.claims.add(name)
            wishes.nodes[node].add(name)
            if _heard(status, device):
                wishes.down[node, device].add(name)
    return wishes


def _asks(spec: Mapping[str, list[JsonObject]]) -> bool:
    """Whether a configuration of ours in it names MPS, whatever else it says."""
    opaque = [each.get("opaque") or {} for each in spec.get("config") or []]
    ours = [each.get("parameters") for each in opaque if each.get("driver") == DRIVER]
    return any(isinstance(each, dict) and each.get("isolation") == Isolation.MPS for each in ours)


def _shares(claim: JsonObject) -> list[tuple[str, str]]:
    """Pool and device of each share with MPS; a configuration that cannot be read is for the check of claims."""
    read: ResourceClaim = claim  # type: ignore[assignment]  # as the API server gave it
    try:
        return [(spec.pool, spec.device) for spec in resolve(read_allocation(read)) if spec.isolation is Isolation.MPS]
    except HamiDraError:
        return []


def _heard(status: Mapping[str, list[JsonObject]], device: str) -> bool:
    """Whether the node plugin said that the daemon of the device takes no clients."""
    return any(
        each["type"] == CONDITION_READY and each["status"] == "False" and each["reason"] == MpsNotReady.reason
        for said in status.get("devices") or []
        if (said["driver"], said["device"]) == (DRIVER, device)
        for each in said.get("conditions") or []
    )


def _runs(pod: JsonObject | None) -> bool:
    return pod is not None and is_ready(pod)


def _absent(view: ClusterView, node: str, pod: JsonObject | None, wishes: _Wishes) -> Finding:
    what = "hami-dra mps does not run there" if pod is None else f"pod {pod['metadata']['name']} is not ready"
    name = "-l app.kubernetes.io/component=mps" if pod is None else pod["metadata"]["name"]
    advice = f"kubectl -n {view.namespace} describe pods {name}"
    if claims := wishes.nodes.get(node):
        return problem(_CHECK, f"{node}: {', '.join(sorted(claims))}: isolation MPS, but {what}", advice)
    return warning(_CHECK, f"{node}: {what}: no claim with isolation MPS could be prepared", advice)


def _down(view: ClusterView, wishes: _Wishes) -> list[Finding]:
    """By what claims heard, and by the taints of cards."""
    slices: Sequence[JsonObject] = [] if isinstance(view.slices, Unknown) else view.slices
    down = {key: ", ".join(sorted(claims)) for key, claims in wishes.down.items()}
    for each in slices:
        for device in each["spec"].get("devices") or []:
            if any(taint["key"] == _TAINT for taint in device.get("taints") or []):
                down.setdefault((each["spec"].get("nodeName", "(no node)"), device["name"]), "")
    advice = (
        "it is started again by itself; if that does not last, see the log of the mps pod there and hami-dra doctor --node;"
        " programs that were its clients have to start anew"
    )
    return [
        problem(
            _CHECK,
            f"{node}: the MPS control daemon of {device} takes no clients{f', needed by {claims}' if claims else ''}",
            advice,
        )
        for (node, device), claims in sorted(down.items())
    ]
