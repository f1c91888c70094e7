"""How well each device of the node is, as far as looks at the hardware tell.

Pure: `node.health_stream` tells kubelet.  Invariant: every device that was ever seen has exactly one entry, so that a card that
is lost is reported as unhealthy and does not just fall silent.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Inventory

__all__ = ["DeviceHealth", "Verdict", "judge"]


class Verdict(Enum):
    """What kubelet can be told of a device."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHealth:
    """One device."""

    name: DeviceName
    verdict: Verdict
    message: str = ""
    """For people; says why, unless the device is healthy."""


def judge(inventory: Inventory | None, *, ever: Collection[DeviceName], failure: str = "") -> tuple[DeviceHealth, ...]:
    """The health of every device that was ever seen, by name.

    Args:
        inventory: the newest look that worked, None before there was one.
        ever: devices that any look has seen.
        failure: why the last look did not work; empty when it did.
    """
    known = Inventory() if inventory is None else inventory
    here = {gpu.name: failure or known.failures.get(gpu.vendor, "") for gpu in known.gpus}
    return tuple(_judge(name, here=name in here, failure=here.get(name, "")) for name in sorted({*here, *ever}))


def _judge(name: DeviceName, *, here: bool, failure: str) -> DeviceHealth:
    if not here:
        message = "the driver does not list this GPU any more: it fell off the bus, was removed, or changed its mode"
        return DeviceHealth(name=name, verdict=Verdict.UNHEALTHY, message=message)
    if failure:
        return DeviceHealth(name=name, verdict=Verdict.UNKNOWN, message=f"the driver does not answer: {failure}")
    return DeviceHealth(name=name, verdict=Verdict.HEALTHY)
