"""From the health of devices to the taints of a slice (KEP-5055).

A taint keeps work away or sends it away, unless it is tolerated; recovery takes it back.  Kubernetes up to 1.34 allows four on a
device and does not know the effect `None`.  One taint stands for each key and effect: its value is that of the newest fault.
A partition has the taints of its card and its own; what keeps work from a partition keeps it from everything that would be made
of the same memory slices.  Invariant: equal faults give equal taints, so that a fault that comes again writes nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from hami_dra.api.k8s import Device, DeviceTaint
from hami_dra.api.names import TAINT_PREFIX
from hami_dra.core.device_health import DeviceHealth, Effect
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import card_of
from hami_dra.core.partitions import memory_slices

__all__ = ["Taints", "device_taints", "taints_of"]

Taints = Mapping[DeviceName, tuple[DeviceTaint, ...]]
"""What is wrong with cards and partitions."""

_MOST: Final = 4
_RANK: Final = {Effect.NO_EXECUTE.value: 0, Effect.NO_SCHEDULE.value: 1, Effect.NONE.value: 2}


def device_taints(health: Iterable[DeviceHealth], *, informational: bool) -> dict[DeviceName, tuple[DeviceTaint, ...]]:
    """The taints of each device that has some, the worst first.

    Args:
        health: of all devices.
        informational: whether the API server knows the effect `None` (1.35 and later).
    """
    found: dict[DeviceName, tuple[DeviceTaint, ...]] = {}
    for device in health:
        taints: dict[tuple[str, str], DeviceTaint] = {}
        for fault in device.faults:
            if informational or fault.effect is not Effect.NONE:
                key = f"{TAINT_PREFIX}{fault.key}"
                taint: DeviceTaint = {"key": key, "value": fault.value, "effect": fault.effect.value}
                taints.setdefault((key, fault.effect), taint)
        if taints:
            found[device.name] = tuple(taints.values())[:_MOST]
    return found


def taints_of(devices: Iterable[Device], taints: Taints) -> dict[DeviceName, list[DeviceTaint]]:
    """The taints of each of these devices, the worst first.

    Args:
        devices: of one card, as they are published.
        taints: of all cards and partitions.
    """
    places = {DeviceName(device["name"]): memory_slices(device) for device in devices}
    return {name: _taints_of(name, places, taints) for name in places}


def _taints_of(name: DeviceName, places: Mapping[DeviceName, frozenset[str]], taints: Taints) -> list[DeviceTaint]:
    card = card_of(name)
    found = [*taints.get(card, ()), *taints.get(name, ())]
    for other, of_other in taints.items():
        if card_of(other) == card and (name == card or places[name] & places.get(other, frozenset())):
            found += [taint for taint in of_other if taint["effect"] != "None"]
    kinds = {(taint["key"], taint["effect"]): taint for taint in reversed(found)}
    first = {kind: kinds[kind] for kind in dict.fromkeys((taint["key"], taint["effect"]) for taint in found)}
    return sorted(first.values(), key=lambda taint: _RANK[taint["effect"]])[:_MOST]
