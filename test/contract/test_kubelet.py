"""What a kubelet demands of a DRA plugin, shown with plugins that break the protocol one rule at a time.

`hami_dra.testing.kubelet` must be as strict as kubelet, or the unit tests that use it prove nothing.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest

from hami_dra._gen import dra_v1_pb2 as dra
from hami_dra._gen import plugin_registration_pb2 as registration
from hami_dra.core.ids import ClaimUid
from hami_dra.node.state import ClaimRef
from hami_dra.testing.kubelet import FakeKubelet, PluginError, PreparedClaim

_Methods: TypeAlias = "dict[str, grpc.RpcMethodHandler[Any, Any]]"

REF = ClaimRef(namespace="ml", name="train", uid=ClaimUid("train-uid"))


@dataclass
class ScriptedPlugin:
    """A plugin whose every answer a test decides."""

    directory: Path
    info: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any], Any] = lambda _request: dra.NodePrepareResourcesResponse()
    unprepare: Callable[[Any], Any] = lambda _request: dra.NodeUnprepareResourcesResponse()
    notified: list[tuple[bool, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.directory / "registry").mkdir()
        self.endpoint = self.directory / "dra.sock"
        self.socket = self.directory / "registry" / "scripted-reg.sock"
        self.servers = [
            self._serve(self.endpoint, "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", self._dra_methods()),
            self._serve(self.socket, "pluginregistration.Registration", self._registration_methods()),
        ]

    def close(self) -> None:
        """Stop listening."""
        for server in self.servers:
            server.stop(grace=0).wait()

    def _serve(self, path: Path, service: str, methods: _Methods) -> grpc.Server:
        handler = grpc.method_handlers_generic_handler(service, methods)
        server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=[handler])
        server.add_insecure_port(f"unix:{path}")
        server.start()
        return server

    def _dra_methods(self) -> _Methods:
        return {
            "NodePrepareResources": grpc.unary_unary_rpc_method_handler(
                lambda request, _context: self.prepare(request),
                request_deserializer=dra.NodePrepareResourcesRequest.FromString,
                response_serializer=dra.NodePrepareResourcesResponse.SerializeToString,
            ),
            "NodeUnprepareResources": grpc.unary_unary_rpc_method_handler(
                lambda request, _context: self.unprepare(request),
                request_deserializer=dra.NodeUnprepareResourcesRequest.FromString,
                response_serializer=dra.NodeUnprepareResourcesResponse.SerializeToString,
            ),
        }

    def _registration_methods(self) -> _Methods:
        default = {
            "type": "DRAPlugin",
            "name": "scripted.example.com",
            "endpoint": str(self.endpoint),
            "supported_versions": ["v1.DRAPlugin"],
        }

        def notify(request: Any, _context: grpc.ServicerContext) -> Any:
            self.notified.append((request.plugin_registered, request.error))
            return registration.RegistrationStatusResponse()

        return {
            "GetInfo": grpc.unary_unary_rpc_method_handler(
                lambda _request, _context: registration.PluginInfo(**default | self.info),
                request_deserializer=registration.InfoRequest.FromString,
                response_serializer=registration.PluginInfo.SerializeToString,
            ),
            "NotifyRegistrationStatus": grpc.unary_unary_rpc_method_handler(
                notify,
                request_deserializer=registration.RegistrationStatus.FromString,
                response_serializer=registration.RegistrationStatusResponse.SerializeToString,
            ),
        }


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ScriptedPlugin]:
    """A plugin that a test can spoil."""
    plugin = ScriptedPlugin(tmp_path)
    yield plugin
    plugin.close()


def response(**devices: list[Any]) -> Callable[[Any], Any]:
    """An answer to Prepare with these devices for these claims (underscores stand for dashes)."""
    claims = {
        uid.replace("_", "-"): dra.NodePrepareResourceResponse(devices=list(found)) for uid, found in devices.items()
    }
    return lambda _request: dra.NodePrepareResourcesResponse(claims=claims)


def test_a_sound_plugin_is_registered_and_told_so(plugin: ScriptedPlugin) -> None:
    """Registration ends with a notification, and calls go to the endpoint that the plugin named."""
    kubelet = FakeKubelet(plugin.socket.parent)
    (found,) = kubelet.scan()
    assert plugin.notified == [(True, "")]
    device = dra.Device(pool_name="p", device_name="d", cdi_device_ids=["vendor.com/class=1-name"])
    plugin.prepare = response(train_uid=[device])
    answer = found.prepare([REF])[REF.uid]
    assert isinstance(answer, PreparedClaim)
    assert answer.cdi_ids == ["vendor.com/class=1-name"]
    assert set(found.prepared) == {REF.uid}


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"type": "CSIPlugin"}, "type 'CSIPlugin'"),
        ({"name": ""}, "name ''"),
        ({"endpoint": "dra.sock"}, "is not the path of a socket"),
        ({"endpoint": "/nowhere/dra.sock"}, "no socket at"),
        ({"supported_versions": ["v9.DRAPlugin"]}, "is supported"),
        ({"supported_versions": []}, "is supported"),
    ],
)
def test_a_plugin_that_makes_no_sense_is_refused(plugin: ScriptedPlugin, info: dict[str, Any], reason: str) -> None:
    """Type, name, endpoint and versions are checked, and the plugin hears why."""
    plugin.info = info
    kubelet = FakeKubelet(plugin.socket.parent)
    assert kubelet.scan() == []
    ((registered, error),) = plugin.notified
    assert not registered
    assert reason in error
    assert reason in kubelet.refused[plugin.socket]


def test_the_first_version_that_both_know_is_taken(plugin: ScriptedPlugin) -> None:
    """The order is the plugin's."""
    plugin.info = {"supported_versions": ["v9.DRAPlugin", "v1beta1.DRAPlugin", "v1.DRAPlugin"]}
    assert FakeKubelet(plugin.socket.parent).scan()[0].service == "v1beta1.DRAPlugin"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response(), "skipped 1 ResourceClaims"),
        (response(train_uid=[], other_uid=[]), "not asked for"),
        (response(train_uid=[dra.Device(device_name="d")]), "without pool or name"),
        (response(train_uid=[dra.Device(pool_name="p", device_name="d", cdi_device_ids=["gpu0"])]), "qualified CDI"),
        (response(train_uid=[dra.Device(pool_name="p", device_name="d", cdi_device_ids=["v/c=-x"])]), "qualified CDI"),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_an_error(
    plugin: ScriptedPlugin, answer: Callable[[Any], Any], reason: str
) -> None:
    """Every claim that was asked for is answered, no other is, and devices have names that kubelet and the runtime take."""
    (found,) = FakeKubelet(plugin.socket.parent).scan()
    plugin.prepare = answer
    with pytest.raises(PluginError, match=reason):
        found.prepare([REF])
    assert not found.prepared


def test_an_error_of_one_claim_is_its_own(plugin: ScriptedPlugin) -> None:
    """A claim that the plugin refuses is not prepared, and the call itself is sound."""
    (found,) = FakeKubelet(plugin.socket.parent).scan()
    refusal = dra.NodePrepareResourceResponse(error="no such device")
    plugin.prepare = lambda _request: dra.NodePrepareResourcesResponse(claims={REF.uid: refusal})
    assert found.prepare([REF]) == {REF.uid: "no such device"}
    assert not found.prepared
    plugin.unprepare = lambda _request: dra.NodeUnprepareResourcesResponse()
    with pytest.raises(PluginError, match="skipped 1"):
        found.unprepare([REF])


def test_a_socket_that_is_gone_is_a_plugin_that_is_gone(plugin: ScriptedPlugin) -> None:
    """Removing the registration socket is how a plugin deregisters; hidden files are not looked at."""
    kubelet = FakeKubelet(plugin.socket.parent)
    kubelet.scan()
    plugin.socket.rename(plugin.socket.with_name(".hidden"))
    assert kubelet.scan() == []
    plugin.socket.with_name(".hidden").rename(plugin.socket)
