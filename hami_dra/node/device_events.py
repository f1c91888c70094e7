"""Events on the Node when a device gets worse or better, for `kubectl describe node`.

Only about what keeps work away: the faults of programs, which any tenant can bring about, are for logs and metrics.
"""

from typing import Literal

from hami_dra.api.k8s import ObjectReference
from hami_dra.core.device_health import DeviceHealth, Verdict
from hami_dra.core.ids import DeviceName, NodeName
from hami_dra.node.ports import EventSink

__all__ = ["DeviceEvents"]

_WORSE = "CardNotHealth"
_BETTER = "CardHealth"


class DeviceEvents:
    """Call it with each device whose health changed."""

    def __init__(self, events: EventSink, *, node: NodeName) -> None:
        """Say it on the Node of that name, in the way of kubelet: its UID is its name."""
        self._events = events
        self._node = ObjectReference(apiVersion="v1", kind="Node", name=node, uid=node)
        self._bad: set[DeviceName] = set()

    def __call__(self, device: DeviceHealth) -> None:
        """Say what is new."""
        if device.verdict is Verdict.HEALTHY:
            if device.name in self._bad:
                self._bad.discard(device.name)
                self._say(device, "Normal")
        else:
            self._bad.add(device.name)
            self._say(device, "Warning")

    def _say(self, device: DeviceHealth, event_type: Literal["Normal", "Warning"]) -> None:
        better = event_type == "Normal"
        message = f"device {device.name} " + (
            "is healthy again" if better else f"is {device.verdict.name.lower()}: {device.message}"
        )
        self._events.emit(self._node, event_type=event_type, reason=_BETTER if better else _WORSE, message=message)
