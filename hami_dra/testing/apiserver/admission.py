"""What the API server does to an object before it stores it: drop closed fields, check the rest.

The rules are those of `resource.k8s.io/v1` validation, as of 1.35, that a driver can trip over (facts: 128 devices a slice, 64
with taints or counters; counters in slices of their own; immutable driver, pool and node; one value an attribute; a policy only
on shareable devices).  Fields behind a closed feature gate vanish without a word, as on the real server.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hami_dra.api.k8s import JsonObject

__all__ = ["DEFAULT_GATES", "claim_status_errors", "drop_closed_fields", "slice_errors"]

DEFAULT_GATES = {"DRAConsumableCapacity": True, "DRADeviceTaints": True, "DRAPartitionableDevices": True}
"""The gates of 1.36 that change what a slice may say."""

_FIELDS_OF_GATES = {
    "DRAConsumableCapacity": ("allowMultipleAllocations",),
    "DRADeviceTaints": ("taints",),
    "DRAPartitionableDevices": ("sharedCounters", "consumesCounters"),
}
_NODE_CHOICES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_MAX_DEVICES = 128
_MAX_ADVANCED_DEVICES = 64
_MAX_COUNTER_SETS = 8
_MAX_CONSUMED_SETS = 2
_MAX_COUNTERS = 32
_MAX_TEXT = 64
_MAX_CONDITIONS = 8
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)


def drop_closed_fields(obj: JsonObject, gates: Mapping[str, bool]) -> None:
    """Take the fields of closed gates out of a slice or a claim."""
    spec = obj.get("spec", {})
    if obj["kind"] == "ResourceClaim" and not gates["DRAConsumableCapacity"]:
        for request in spec.get("devices", {}).get("requests", []):
            for asked in (request.get("exactly", {}), *request.get("firstAvailable", [])):
                asked.pop("capacity", None)
    if obj["kind"] != "ResourceSlice":
        return
    closed = {name for gate, names in _FIELDS_OF_GATES.items() if not gates[gate] for name in names}
    for holder in (spec, *spec.get("devices", [])):
        for name in closed & holder.keys():
            del holder[name]
    if not gates["DRAConsumableCapacity"]:
        for device in spec.get("devices", []):
            for capacity in device.get("capacity", {}).values():
                capacity.pop("requestPolicy", None)


def slice_errors(new: JsonObject, old: JsonObject | None) -> list[str]:
    """What is wrong with a slice; `old` is what it replaces."""
    spec = new["spec"]
    pool = spec.get("pool", {})
    devices = spec.get("devices", [])
    advanced = any(device.get("taints") or device.get("consumesCounters") for device in devices)
    limit = _MAX_ADVANCED_DEVICES if advanced else _MAX_DEVICES
    errors: list[str] = []
    if not spec.get("driver"):
        errors.append("spec.driver: Required value")
    if not pool.get("name"):
        errors.append("spec.pool.name: Required value")
    if pool.get("resourceSliceCount", 0) <= 0:
        errors.append("spec.pool.resourceSliceCount: Invalid value: must be greater than zero")
    if sum(1 for key in _NODE_CHOICES if spec.get(key)) != 1:
        errors.append(f"spec: Invalid value: exactly one of {', '.join(_NODE_CHOICES)} is required")
    if len(devices) > limit:
        errors.append(f"spec.devices: Too many: {len(devices)}: must have at most {limit} items")
    names = [device.get("name", "") for device in devices]
    errors += [f"spec.devices: Duplicate value: {name!r}" for name in {n for n in names if names.count(n) > 1}]
    for index, device in enumerate(devices):
        errors += _device_errors(f"spec.devices[{index}]", device)
    errors += _counter_set_errors(spec)
    return errors + (_immutable_errors(spec, old["spec"]) if old is not None else [])


def _counter_set_errors(spec: JsonObject) -> list[str]:
    sets = spec.get("sharedCounters", [])
    errors: list[str] = []
    if sets and spec.get("devices"):
        errors.append("spec: Invalid value: only one of `sharedCounters` or `devices` is allowed")
    if len(sets) > _MAX_COUNTER_SETS:
        errors.append(f"spec.sharedCounters: Too many: {len(sets)}: must have at most {_MAX_COUNTER_SETS} items")
    names = [each.get("name", "") for each in sets]
    errors += [f"spec.sharedCounters: Duplicate value: {name!r}" for name in {n for n in names if names.count(n) > 1}]
    for index, each in enumerate(sets):
        errors += _counters_errors(f"spec.sharedCounters[{index}]", each, name=each.get("name", ""))
    return errors


def _counters_errors(where: str, holder: JsonObject, *, name: str) -> list[str]:
    counters = holder.get("counters", {})
    errors = [
        f"{where}: Invalid value: {label!r}: must be a DNS label"
        for label in (name, *counters)
        if not _LABEL.fullmatch(label)
    ]
    if not counters:
        errors.append(f"{where}.counters: Required value")
    if len(counters) > _MAX_COUNTERS:
        errors.append(f"{where}.counters: Too many: {len(counters)}: must have at most {_MAX_COUNTERS} items")
    return errors


def claim_status_errors(status: JsonObject) -> list[str]:
    """What is wrong with the devices of a claim's status."""
    results = status.get("allocation", {}).get("devices", {}).get("results", [])
    allocated = {_device_id(result) for result in results}
    errors: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for index, device in enumerate(status.get("devices", [])):
        where = f"status.devices[{index}]"
        key = _device_id(device)
        if key not in allocated:
            errors.append(f"{where}: Invalid value: {'/'.join(key)!r}: must be an allocated device in the claim")
        if key in seen:
            errors.append(f"{where}: Duplicate value: {'/'.join(key)!r}")
        seen.add(key)
        conditions = device.get("conditions") or []
        if len(conditions) > _MAX_CONDITIONS:
            errors.append(f"{where}.conditions: Too many: {len(conditions)}: must have at most {_MAX_CONDITIONS} items")
        for position, condition in enumerate(conditions):
            errors += [
                f"{where}.conditions[{position}].{name}: Required value"
                for name in ("type", "status", "reason", "lastTransitionTime")
                if not condition.get(name)
            ]
    return errors


def _device_id(obj: JsonObject) -> tuple[str, ...]:
    return tuple(str(obj.get(key) or "") for key in ("driver", "pool", "device", "shareID"))


def _immutable_errors(spec: JsonObject, old: JsonObject) -> list[str]:
    values = {
        "driver": (spec.get("driver"), old["driver"]),
        "nodeName": (spec.get("nodeName"), old.get("nodeName")),
        "pool.name": (spec.get("pool", {}).get("name"), old["pool"]["name"]),
    }
    return [
        f"spec.{path}: Invalid value: {new!r}: field is immutable" for path, (new, was) in values.items() if new != was
    ]


def _device_errors(where: str, device: JsonObject) -> list[str]:
    errors = []
    if not _LABEL.fullmatch(device.get("name", "")):
        errors.append(f"{where}.name: Invalid value: {device.get('name')!r}: must be a DNS label")
    consumed = device.get("consumesCounters", [])
    if len(consumed) > _MAX_CONSUMED_SETS:
        errors.append(
            f"{where}.consumesCounters: Too many: {len(consumed)}: must have at most {_MAX_CONSUMED_SETS} items"
        )
    for index, each in enumerate(consumed):
        errors += _counters_errors(f"{where}.consumesCounters[{index}]", each, name=each.get("counterSet", ""))
    for name, attribute in device.get("attributes", {}).items():
        errors += _attribute_errors(f"{where}.attributes[{name}]", attribute)
    for name, capacity in device.get("capacity", {}).items():
        policy = capacity.get("requestPolicy")
        if policy and not device.get("allowMultipleAllocations"):
            errors.append(f"{where}.capacity[{name}].requestPolicy: Forbidden: allowMultipleAllocations must be true")
        if policy and not policy.get("default") and (policy.get("validRange") or policy.get("validValues")):
            errors.append(f"{where}.capacity[{name}].requestPolicy.default: Required value")
    return errors


def _attribute_errors(where: str, attribute: dict[str, Any]) -> list[str]:
    if len(attribute) != 1:
        return [f"{where}: Invalid value: exactly one value must be specified"]
    kind, value = next(iter(attribute.items()))
    if kind in {"string", "version"} and len(value) > _MAX_TEXT:
        return [f"{where}.{kind}: Too long: may not be more than {_MAX_TEXT} bytes"]
    if kind == "version" and not _SEMVER.fullmatch(value):
        return [f"{where}.version: Invalid value: {value!r}: must be a string compatible with semver.org spec 2.0.0"]
    return []
