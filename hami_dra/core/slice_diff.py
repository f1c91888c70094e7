"""Desired versus observed ResourceSlices.

Given what the node should publish and what the API server holds, say which writes make them equal.  Pure: the publisher does
the writing, `core.slices` decides what is desired.  Invariant: applying the result to `observed` yields `desired`, all in one
generation; equal content in any order of slices yields no writes.  Algorithm as in client-go's resourceslice controller.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hami_dra.api.k8s import Device, ResourceSlice, ResourceSliceSpec
from hami_dra.api.quantity import parse_quantity

__all__ = ["Changes", "diff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Writes, in the order in which they must happen: deletes, updates, creates."""

    delete: tuple[ResourceSlice, ...]
    update: tuple[ResourceSlice, ...]
    """Observed objects with the new spec: their resourceVersion guards the write."""
    create: tuple[ResourceSliceSpec, ...]

    def __bool__(self) -> bool:
        return bool(self.delete or self.update or self.create)


def diff(desired: Sequence[ResourceSliceSpec], observed: Iterable[ResourceSlice]) -> Changes:
    """What to write so that the pool is `desired`.  All slices of `desired` and of `observed` are of one pool."""
    existing = sorted(observed, key=lambda item: item["metadata"]["name"])
    newest = max((item["spec"]["pool"]["generation"] for item in existing), default=0)
    current = [item for item in existing if item["spec"]["pool"]["generation"] == newest]
    stale = [item for item in existing if item["spec"]["pool"]["generation"] != newest]
    pairs, unmatched, missing = _match(desired, current)
    changed = [(spec, item) for spec, item in pairs if not _same(spec, item["spec"])]
    complete = not missing and not unmatched
    if complete and not changed:
        return Changes(delete=tuple(stale), update=(), create=())
    # One changed slice can be replaced in place; anything more needs a new generation, which makes the pool whole at once.
    generation = newest if complete and len(changed) == 1 else newest + 1
    updates = changed if generation == newest else pairs
    return Changes(
        delete=tuple(stale + unmatched),
        update=tuple(_updated(item, spec, generation) for spec, item in updates),
        create=tuple(_numbered(spec, generation) for spec in missing),
    )


def _match(
    desired: Sequence[ResourceSliceSpec], current: list[ResourceSlice]
) -> tuple[list[tuple[ResourceSliceSpec, ResourceSlice]], list[ResourceSlice], list[ResourceSliceSpec]]:
    """Pair slices with the same devices and counter sets first, then the rest in order."""
    by_names = {_names(item["spec"]): item for item in current}
    pairs = [(spec, by_names[_names(spec)]) for spec in desired if _names(spec) in by_names]
    taken = {item["metadata"]["name"] for _, item in pairs}
    free = [item for item in current if item["metadata"]["name"] not in taken]
    open_specs = [spec for spec in desired if _names(spec) not in by_names]
    pairs += zip(open_specs, free, strict=False)
    return pairs, free[len(open_specs) :], open_specs[len(free) :]


def _names(spec: ResourceSliceSpec) -> frozenset[str]:
    """Of what is in the slice: no device is called like a counter set."""
    return frozenset(item["name"] for item in (*spec.get("devices", []), *spec.get("sharedCounters", [])))


def _same(desired: ResourceSliceSpec, observed: ResourceSliceSpec) -> bool:
    return (
        desired["pool"]["resourceSliceCount"] == observed["pool"]["resourceSliceCount"]
        and desired.get("nodeName") == observed.get("nodeName")
        and [_canonical(device) for device in desired.get("devices", [])]
        == [_canonical(device) for device in observed.get("devices", [])]
        and _quantities(_counters(desired)) == _quantities(_counters(observed))
    )


def _counters(spec: ResourceSliceSpec) -> list[Any]:
    """What of the slice's counter sets is a quantity, by name."""
    return [{item["name"]: item["counters"]} for item in spec.get("sharedCounters", [])]


def _canonical(device: Device) -> Any:
    """The device with quantities as numbers, so that `1024Mi` equals `1Gi`, and without what the server adds."""
    return {
        **device,
        "capacity": _quantities(device.get("capacity", {})),
        "consumesCounters": [
            {each["counterSet"]: _quantities(each["counters"])} for each in device.get("consumesCounters", [])
        ],
        "taints": [{**taint, "timeAdded": None} for taint in device.get("taints", [])],
    }


def _quantities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _quantities(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_quantities(child) for child in value]
    return parse_quantity(str(value))


def _numbered(spec: ResourceSliceSpec, generation: int) -> ResourceSliceSpec:
    return spec | {"pool": spec["pool"] | {"generation": generation}}


def _updated(item: ResourceSlice, spec: ResourceSliceSpec, generation: int) -> ResourceSlice:
    if "devices" not in spec:
        return item | {"spec": _numbered(spec, generation)}
    since = {
        (device["name"], taint["key"], taint.get("value"), taint["effect"]): taint
        for device in item["spec"].get("devices", [])
        for taint in device.get("taints", [])
    }
    devices = [
        device | {"taints": [since.get((device["name"], t["key"], t.get("value"), t["effect"]), t) for t in taints]}
        if (taints := device.get("taints"))
        else device
        for device in spec["devices"]
    ]
    return item | {"spec": _numbered(spec | {"devices": devices}, generation)}
