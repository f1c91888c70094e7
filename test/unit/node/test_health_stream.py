"""What kubelet hears of the devices' health, over a real socket."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from hami_dra._gen import dra_health_v1_pb2, dra_health_v1alpha1_pb2
from hami_dra.core.device_health import DeviceHealth, Verdict
from hami_dra.core.ids import DeviceName
from hami_dra.node.health_stream import SUPPORTED_HEALTH_VERSIONS, HealthStream, health_handlers
from hami_dra.testing.eventually import eventually

MESSAGES = {"v1": dra_health_v1_pb2, "v1alpha1": dra_health_v1alpha1_pb2}
FINE = DeviceHealth(name=DeviceName("gpu-0"), verdict=Verdict.HEALTHY)
LOST = DeviceHealth(name=DeviceName("gpu-0"), verdict=Verdict.UNHEALTHY, message="x" * 2000)


class Kubelet:
    """A stream that is served, and the means to watch it."""

    def __init__(self, socket: Path, *, heartbeat_s: float) -> None:
        self.devices: tuple[DeviceHealth, ...] = (FINE,)
        self.stream = HealthStream(pool="n/gpu", look=lambda: self.devices, heartbeat_s=heartbeat_s, now=lambda: 77.5)
        self._server = grpc.server(ThreadPoolExecutor(max_workers=8), handlers=health_handlers(self.stream))
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()
        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def watch(self, version: str = "v1") -> Any:
        """Open a stream, as kubelet does for each plugin."""
        messages = MESSAGES[version]
        call = self._channel.unary_stream(
            f"/{version}.DRAResourceHealth/NodeWatchResources",
            request_serializer=messages.NodeWatchResourcesRequest.SerializeToString,
            response_deserializer=messages.NodeWatchResourcesResponse.FromString,
        )
        return call(messages.NodeWatchResourcesRequest(), timeout=30)

    def close(self) -> None:
        """End everything, the streams first."""
        self.stream.close()
        self._channel.close()
        self._server.stop(grace=5).wait()


@contextmanager
def kubelet(directory: Path, *, heartbeat_s: float = 30.0) -> Iterator[Kubelet]:
    """A kubelet and the plugin that it watches."""
    with closing(Kubelet(directory / "s", heartbeat_s=heartbeat_s)) as found:
        yield found


@pytest.mark.parametrize("version", MESSAGES)
def test_the_whole_list_comes_first_then_each_change(tmp_path: Path, version: str) -> None:
    """Both versions tell pool, device, health, time and timeout; a change is told at once, its message cut to size."""
    with kubelet(tmp_path) as node:
        told = node.watch(version)
        (device,) = next(told).devices
        assert (device.device.pool_name, device.device.device_name) == ("n/gpu", "gpu-0")
        assert (device.health, device.last_updated_time) == (MESSAGES[version].HEALTHY, 77)
        assert device.health_check_timeout_seconds == 90
        node.devices = (LOST,)
        node.stream.changed()
        (device,) = next(told).devices
        assert device.health == MESSAGES[version].UNHEALTHY
        assert device.message == "x" * 1024


def test_without_a_change_the_list_comes_again(tmp_path: Path) -> None:
    """Kubelet calls a device unknown when it hears nothing: a heartbeat repeats the list."""
    with kubelet(tmp_path, heartbeat_s=0.02) as node:
        told = node.watch()
        assert [len(next(told).devices) for _ in range(3)] == [1, 1, 1]


def test_a_change_that_is_none_is_not_told(tmp_path: Path) -> None:
    """A look at unchanged hardware wakes nobody: the next message is that of the change after it."""
    with kubelet(tmp_path) as node:
        told = node.watch()
        next(told)
        node.stream.changed()
        node.devices = ()
        node.stream.changed()
        assert list(next(told).devices) == []


def test_streams_that_kubelet_forgot_end_and_too_many_are_refused(tmp_path: Path) -> None:
    """A kubelet that opens stream upon stream cannot take the threads away from Prepare; a stream that ends makes room."""
    with kubelet(tmp_path) as node:
        streams = [node.watch() for _ in range(4)]
        for stream in streams:
            next(stream)
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            next(node.watch())
        streams[0].cancel()

        def admitted() -> bool:
            try:
                next(node.watch())
            except grpc.RpcError:
                return False
            return True

        eventually(admitted)


def test_closing_ends_the_streams(tmp_path: Path) -> None:
    """The plugin stops at once, whatever kubelet still watches."""
    with kubelet(tmp_path) as node:
        told = node.watch()
        next(told)
        node.stream.close()
        assert list(told) == []


def test_registration_names_the_versions() -> None:
    """A kubelet of 1.37 opens the stream only when it is advertised."""
    assert SUPPORTED_HEALTH_VERSIONS == ("v1.DRAResourceHealth", "v1alpha1.DRAResourceHealth")
