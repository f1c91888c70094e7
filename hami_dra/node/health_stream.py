"""The stream on which kubelet hears how the devices are (DRAResourceHealth, v1 and v1alpha1).

Kubelet shows it in `pod.status.containerStatuses[].allocatedResourcesStatus` (KEP-4680).  Each message is the complete list; it
comes when something changes and as a heartbeat well within the 30 seconds after which kubelet calls a device unknown.
A stream holds a worker thread for its life, so the service refuses more streams than kubelet can want.
"""

import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import grpc

from hami_dra._gen import dra_health_v1_pb2, dra_health_v1alpha1_pb2
from hami_dra.core.device_health import DeviceHealth, Verdict

__all__ = ["SUPPORTED_HEALTH_VERSIONS", "HealthStream", "health_handlers"]

SUPPORTED_HEALTH_VERSIONS = ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
"""As registration wants them; kubelets before 1.37 open the v1alpha1 stream, advertised or not."""

_MAX_STREAMS = 4
_MAX_MESSAGE = 1024


class HealthStream:
    """Tells any number of watchers the newest health; `changed` wakes them."""

    def __init__(
        self,
        *,
        pool: str,
        look: Callable[[], tuple[DeviceHealth, ...]],
        heartbeat_s: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Devices belong to `pool`; `look` says how they are."""
        self._pool = pool
        self._look = look
        self._heartbeat_s = heartbeat_s
        self._now = now
        self._condition = threading.Condition()
        self._changes = 0
        self._streams = 0
        self._closed = False

    def changed(self) -> None:
        """Something may have changed: watchers are told now."""
        with self._condition:
            self._changes += 1
            self._condition.notify_all()

    def close(self) -> None:
        """End all streams."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def watch(self, messages: ModuleType, context: grpc.ServicerContext) -> Iterator[Any]:
        """The messages of one stream."""
        with self._condition:
            if self._streams >= _MAX_STREAMS:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"there are {_MAX_STREAMS} health streams already")
            self._streams += 1
        context.add_callback(self.changed)
        try:
            while context.is_active() and not self._closed:
                changes = self._changes
                told = self._look()
                yield self._message(messages, told)
                self._wait(changes, told, context)
        finally:
            with self._condition:
                self._streams -= 1

    def _wait(self, changes: int, told: tuple[DeviceHealth, ...], context: grpc.ServicerContext) -> None:
        """Until the next message is due: the heartbeat, or a change of what was told."""
        deadline = time.monotonic() + self._heartbeat_s
        with self._condition:
            while not self._closed and context.is_active():
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return
                if self._changes != changes:
                    changes = self._changes
                    if self._look() != told:
                        return
                    continue
                self._condition.wait(left_s)

    def _message(self, messages: ModuleType, devices: tuple[DeviceHealth, ...]) -> Any:
        statuses = {
            Verdict.HEALTHY: messages.HEALTHY,
            Verdict.UNHEALTHY: messages.UNHEALTHY,
            Verdict.UNKNOWN: messages.UNKNOWN,
        }
        return messages.NodeWatchResourcesResponse(
            devices=[
                messages.DeviceHealth(
                    device=messages.DeviceIdentifier(pool_name=self._pool, device_name=device.name),
                    health=statuses[device.verdict],
                    last_updated_time=int(self._now()),
                    health_check_timeout_seconds=int(self._heartbeat_s * 3),
                    message=device.message[:_MAX_MESSAGE],
                )
                for device in devices
            ]
        )


def health_handlers(stream: HealthStream) -> list[grpc.GenericRpcHandler]:
    """Handlers of both versions of the health service, for a gRPC server."""
    return [
        _handler("v1.DRAResourceHealth", dra_health_v1_pb2, stream),
        _handler("v1alpha1.DRAResourceHealth", dra_health_v1alpha1_pb2, stream),
    ]


def _handler(name: str, messages: ModuleType, stream: HealthStream) -> grpc.GenericRpcHandler:
    def watch(_request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        return stream.watch(messages, context)

    method = grpc.unary_stream_rpc_method_handler(
        watch,
        request_deserializer=messages.NodeWatchResourcesRequest.FromString,
        response_serializer=messages.NodeWatchResourcesResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(name, {"NodeWatchResources": method})
