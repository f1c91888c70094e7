"""From the health of devices to the taints of a slice (KEP-5055).

A taint keeps work away or sends it away, unless it is tolerated; recovery takes it back.  Kubernetes up to 1.34 allows four on a
device and does not know the effect `None`.  One taint stands for each key and effect: its value is that of the newest fault.
Invariant: equal faults give equal taints, so that a fault that comes again writes nothing.
"""

from collections.abc import Iterable
from typing import Final

from hami_dra.api.k8s import DeviceTaint
from hami_dra.api.names import TAINT_PREFIX
from hami_dra.core.device_health import DeviceHealth, Effect
from hami_dra.core.ids import DeviceName

__all__ = ["device_taints"]

_MOST: Final = 4


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
