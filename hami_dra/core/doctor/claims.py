"""Claims of this driver that do not get on, each with its reason."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hami_dra.api.k8s import JsonObject
from hami_dra.api.names import CONDITION_READY, DRIVER
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.install import is_our_class
from hami_dra.core.doctor.view import ClusterView, Unknown
from hami_dra.core.errors import MpsNotReady

__all__ = ["judge_claims"]

_SETTLED_S = 60.0
"""What is younger may be on its way."""

_Key = tuple[str, str]


def judge_claims(view: ClusterView) -> list[Finding]:
    """Those that are refused, wait, or do not end; one line where there are none."""
    check = "claims"
    if isinstance(view.claims, Unknown):
        return [warning(check, f"not looked at: {view.claims.why}", "ask as somebody who may list resourceclaims")]
    classes = [] if isinstance(view.classes, Unknown) else view.classes
    names = {each["metadata"]["name"] for each in classes if is_our_class(each)} | {DRIVER}
    ours = [claim for claim in view.claims if _is_ours(claim, names)]
    waiting = _waiting_pods([] if isinstance(view.pending, Unknown) else view.pending)
    stuck = [finding for claim in ours for finding in _judge(claim, waiting.get(_key(claim), []), view.now)]
    if isinstance(view.pending, Unknown):
        stuck.append(
            warning(check, f"pods that wait are unknown: {view.pending.why}", "ask as somebody who may list pods")
        )
    return stuck or [ok(check, f"{len(ours)} claims of this driver, and none is stuck")]


def _judge(claim: JsonObject, pods: Sequence[JsonObject], now: datetime) -> list[Finding]:
    where, status = "/".join(_key(claim)), claim.get("status") or {}
    users = [f"{user.get('resource', 'pods')}/{user['name']}" for user in status.get("reservedFor") or []]
    created = datetime.fromisoformat(claim["metadata"]["creationTimestamp"])
    settled = (now - created).total_seconds() > _SETTLED_S
    refused = [
        problem("claims", f"{where}: {each['type']} is False: {each['message']} ({each['reason']})", _repair(each))
        for device in status.get("devices") or []
        if device["driver"] == DRIVER
        for each in device.get("conditions") or []
        if each["status"] == "False"
    ]
    if "deletionTimestamp" in claim["metadata"]:
        advice = "it goes when they have ended: delete them, or see why they do not end"
        return [
            *refused,
            warning("claims", f"{where}: is being deleted, used by {', '.join(users) or 'nobody'}", advice),
        ]
    if refused or not pods or not settled:
        return refused
    if "allocation" not in status:
        why = _unschedulable(pods) or "the scheduler has not said why"
        advice = "free or add what is asked for: hami-dra top shows what is promised, slices what is published"
        return [warning("claims", f"{where}: is not allocated: {why}", advice)]
    if not _has_ready(status):
        advice = "see the Events of the claim and the pod, and the node plugin there"
        return [problem("claims", f"{where}: is allocated to {', '.join(users) or 'nobody'}, but not prepared", advice)]
    return []


def _repair(condition: JsonObject) -> str:
    if condition["reason"] == MpsNotReady.reason:
        return (
            "see what check mps says; the claim is ready again when its daemon is, and its programs have to start anew"
        )
    if condition["type"] == CONDITION_READY:
        return "see the Events of the claim; kubelet, or the node plugin, tries again by itself"
    return "correct the GpuConfig of the claim or of its DeviceClass, and make the claim anew"


def _has_ready(status: Mapping[str, Any]) -> bool:
    """Whether all devices of ours are prepared; claims of other drivers too are none of ours to judge."""
    ready = {
        device["device"]
        for device in status.get("devices") or []
        for each in device.get("conditions") or []
        if device["driver"] == DRIVER and each["type"] == CONDITION_READY
    }
    return ready >= {each["device"] for each in _results(status) if each["driver"] == DRIVER}


def _is_ours(claim: JsonObject, classes: Iterable[str]) -> bool:
    if results := _results(claim.get("status") or {}):
        return any(each["driver"] == DRIVER for each in results)
    requests = ((claim.get("spec") or {}).get("devices") or {}).get("requests") or []
    asked = [each for request in requests for each in (request.get("exactly"), *(request.get("firstAvailable") or ()))]
    return any(each and each.get("deviceClassName") in set(classes) for each in asked)


def _results(status: Mapping[str, Any]) -> list[Any]:
    return ((status.get("allocation") or {}).get("devices") or {}).get("results") or []


def _waiting_pods(pods: Iterable[JsonObject]) -> dict[_Key, list[JsonObject]]:
    """Pods that wait, by the claims that they use."""
    waiting: dict[_Key, list[JsonObject]] = {}
    for pod in pods:
        made = (pod.get("status") or {}).get("resourceClaimStatuses") or []
        named = pod["spec"].get("resourceClaims") or []
        for each in (*made, *named):
            if name := each.get("resourceClaimName"):
                waiting.setdefault((pod["metadata"]["namespace"], name), []).append(pod)
    return waiting


def _unschedulable(pods: Iterable[JsonObject]) -> str:
    said = [
        f"{condition['message']} (pod {pod['metadata']['name']})"
        for pod in pods
        for condition in pod["status"].get("conditions") or []
        if condition["type"] == "PodScheduled" and condition["status"] == "False" and condition.get("message")
    ]
    return said[0] if said else ""


def _key(obj: JsonObject) -> _Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
