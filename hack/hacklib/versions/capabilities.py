"""What an API server keeps of what drivers and users write, found out by writing it.

Fields behind a closed feature gate are dropped without a word, so each probe sends an object as a dry run and looks at what comes
back.  Only the pod is really made, for a moment: a status wants an object.  Nothing of the product is asked.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hacklib.deployment.kubectl import Kubectl, KubeObject, Refused
from hacklib.deployment.waiting import wait_until

__all__ = ["PROBES", "Capability", "Probe", "probe"]

_DRIVER = "probe.hami.io"
_GROUP = "resource.k8s.io"
_POD = "hami-dra-probe"


class Capability(StrEnum):
    """What a configuration of Kubernetes may offer; the value is its row in docs/versions.md."""

    SHARES = "shares: any part of a card for each claim"
    PARTITIONS = "partitions: counters in slices of their own"
    TAINTS = "taints of devices"
    TAINT_RULES = "DeviceTaintRule: an administrator's taints"
    HEALTH = "health of devices in the status of pods"
    HEALTH_REASON = "the reason beside it"
    DEVICE_STATUS = "status of devices in claims"
    EXTENDED_RESOURCES = "extended resources from DeviceClasses"
    BINDING_CONDITIONS = "binding conditions"
    ALTERNATIVES = "alternatives in a request (firstAvailable)"
    ADMIN_ACCESS = "admin access for monitors"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How to find out one capability."""

    field: str
    """What is kept, or dropped."""
    gate: str
    """The feature gate that decides; "" where none does."""
    kept: Callable[[Kubectl], object]
    """True if the server keeps it.  Raises Refused if it will not even look at it."""


def probe(kubectl: Kubectl) -> Mapping[Capability, str]:
    """Of each capability: "" if the API server has it, else the reason why not, in words that are the same in each run."""
    return {capability: _reason(kubectl, found) for capability, found in PROBES.items()}


def _reason(kubectl: Kubectl, found: Probe) -> str:
    decides = f" (gate {found.gate})" if found.gate else ""
    try:
        kept = found.kept(kubectl)
    except Refused:
        return f"the API server refuses {found.field}{decides}"
    return "" if kept else f"the API server drops {found.field}{decides}"


def _tried(kubectl: Kubectl, kind: str, spec: KubeObject, *, version: str = "v1") -> KubeObject:
    """What the server would make of an object."""
    sent = {"apiVersion": f"{_GROUP}/{version}", "kind": kind, "metadata": {"name": "hami-dra-probe"}, "spec": spec}
    words = ("create", "--dry-run=server", "--validate=false", "-o", "json", "-f", "-")
    made: KubeObject = json.loads(kubectl.run(*words, stdin=json.dumps(sent)))["spec"]
    return made


def _slice(**spec: Any) -> KubeObject:
    pool = {"name": "probe", "generation": 1, "resourceSliceCount": 1}
    return {"driver": _DRIVER, "nodeName": "node-1", "pool": pool, **spec}


def _device(kubectl: Kubectl, **fields: Any) -> KubeObject:
    """What the server would keep of a device."""
    (device,) = _tried(kubectl, "ResourceSlice", _slice(devices=[{"name": "probe", **fields}]))["devices"]
    found: KubeObject = device
    return found


def _shares(kubectl: Kubectl) -> object:
    policy = {"default": "1Mi", "validRange": {"min": "1Mi", "step": "1Mi"}}
    capacity = {"memory": {"value": "1Gi", "requestPolicy": policy}}
    return _device(kubectl, allowMultipleAllocations=True, capacity=capacity).get("allowMultipleAllocations")


def _partitions(kubectl: Kubectl) -> object:
    counters = {"counters": {"parts": {"value": "1"}}}
    kept = _tried(kubectl, "ResourceSlice", _slice(sharedCounters=[{"name": "card", **counters}]))
    consumed = _device(kubectl, consumesCounters=[{"counterSet": "card", **counters}])
    return kept.get("sharedCounters") and consumed.get("consumesCounters")


def _taints(kubectl: Kubectl) -> object:
    return _device(kubectl, taints=[{"key": f"{_DRIVER}/probe", "effect": "NoSchedule"}]).get("taints")


def _taint_rules(kubectl: Kubectl) -> object:
    served = kubectl.run("api-resources", f"--api-group={_GROUP}", "-o", "name").split()
    return f"devicetaintrules.{_GROUP}" in served


def _binding_conditions(kubectl: Kubectl) -> object:
    fields = {"bindsToNode": True, "bindingConditions": ["probe"], "bindingFailureConditions": ["failed"]}
    return _device(kubectl, **fields).get("bindingConditions")


def _extended_resources(kubectl: Kubectl) -> object:
    return _tried(kubectl, "DeviceClass", {"extendedResourceName": "probe.hami.io/gpu"}).get("extendedResourceName")


def _request(kubectl: Kubectl, **request: Any) -> KubeObject:
    """What the server would keep of a claim's request."""
    (kept,) = _tried(kubectl, "ResourceClaim", {"devices": {"requests": [{"name": "gpu", **request}]}})["devices"][
        "requests"
    ]
    found: KubeObject = kept
    return found


def _alternatives(kubectl: Kubectl) -> object:
    return _request(kubectl, firstAvailable=[{"name": "one", "deviceClassName": _DRIVER}]).get("firstAvailable")


def _admin_access(kubectl: Kubectl) -> object:
    admins = kubectl.within("hami-dra-probe")
    label = {"resource.kubernetes.io/admin-access": "true"}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": admins.namespace, "labels": label}})
    try:
        return _request(admins, exactly={"deviceClassName": _DRIVER, "adminAccess": True})["exactly"].get("adminAccess")
    finally:
        kubectl.run("delete", "namespace", admins.namespace, "--wait=false")


def _device_status(kubectl: Kubectl) -> object:
    claim = {
        "apiVersion": f"{_GROUP}/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": _POD},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": _DRIVER}}]}},
    }
    device = {"driver": _DRIVER, "pool": "probe", "device": "probe"}
    status = {
        "allocation": {"devices": {"results": [{"request": "gpu", **device}]}},
        "devices": [{**device, "data": {"probe": True}}],
    }
    kubectl.apply(claim)
    try:
        return _patched(kubectl, "resourceclaim", status).get("devices")
    finally:
        kubectl.run("delete", "resourceclaim", _POD)


def _health(kubectl: Kubectl) -> Mapping[str, Any]:
    """What is kept of the health of a pod's device."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _POD},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{"name": "main", "image": "none", "resources": {"claims": [{"name": "gpu"}]}}],
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "none"}],
        },
    }
    resources = [{"resourceID": "probe", "health": "Healthy", "message": "probe"}]
    container = {
        "name": "main",
        "image": "none",
        "imageID": "none",
        "ready": False,
        "restartCount": 0,
        "allocatedResourcesStatus": [{"name": "claim:gpu", "resources": resources}],
    }
    wait_until(lambda: kubectl.get("serviceaccount", "default"), what="the namespace's service account")
    kubectl.apply(pod)
    try:
        (kept,) = _patched(kubectl, "pod", {"containerStatuses": [container]})["containerStatuses"]
        told = [found for status in kept.get("allocatedResourcesStatus", []) for found in status["resources"]]
        return told[0] if told else {}
    finally:
        kubectl.run("delete", "pod", _POD, "--grace-period=0", "--force")


def _patched(kubectl: Kubectl, kind: str, status: KubeObject) -> KubeObject:
    """What the server would keep of a status."""
    words = ("patch", kind, _POD, "--subresource=status", "--type=merge", "--dry-run=server", "-o", "json")
    made: KubeObject = json.loads(kubectl.run(*words, "-p", json.dumps({"status": status})))["status"]
    return made


PROBES: Mapping[Capability, Probe] = {
    Capability.SHARES: Probe(field="devices[].allowMultipleAllocations", gate="DRAConsumableCapacity", kept=_shares),
    Capability.PARTITIONS: Probe(
        field="sharedCounters in a slice without devices", gate="DRAPartitionableDevices", kept=_partitions
    ),
    Capability.TAINTS: Probe(field="devices[].taints", gate="DRADeviceTaints", kept=_taints),
    Capability.TAINT_RULES: Probe(field="DeviceTaintRule objects", gate="DRADeviceTaintRules", kept=_taint_rules),
    Capability.HEALTH: Probe(
        field="status.containerStatuses[].allocatedResourcesStatus", gate="ResourceHealthStatus", kept=_health
    ),
    Capability.HEALTH_REASON: Probe(
        field="allocatedResourcesStatus[].resources[].message",
        gate="ResourceHealthStatus",
        kept=lambda kubectl: _health(kubectl).get("message"),
    ),
    Capability.DEVICE_STATUS: Probe(
        field="status.devices[] of a claim", gate="DRAResourceClaimDeviceStatus", kept=_device_status
    ),
    Capability.EXTENDED_RESOURCES: Probe(
        field="extendedResourceName of a DeviceClass", gate="DRAExtendedResource", kept=_extended_resources
    ),
    Capability.BINDING_CONDITIONS: Probe(
        field="devices[].bindingConditions", gate="DRADeviceBindingConditions", kept=_binding_conditions
    ),
    Capability.ALTERNATIVES: Probe(field="requests[].firstAvailable", gate="DRAPrioritizedList", kept=_alternatives),
    Capability.ADMIN_ACCESS: Probe(field="requests[].exactly.adminAccess", gate="DRAAdminAccess", kept=_admin_access),
}
