"""A kubelet, as far as a DRA plugin can tell: it finds plugins by their sockets and holds them to the protocol.

Real sockets and real gRPC.  The checks are kubelet's own (pkg/kubelet/cm/dra): a plugin is registered only if its answers make
sense, and an answer that misses a claim, adds one, or names CDI devices badly is an error.  The contract test
(test/contract/test_kubelet.py) runs on this and on a real kubelet.
"""

import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc

from hami_dra._gen import dra_v1_pb2, dra_v1beta1_pb2
from hami_dra._gen import plugin_registration_pb2 as registration
from hami_dra.node.state import ClaimRef

__all__ = ["FakeKubelet", "Plugin", "PluginError", "PreparedClaim"]

_GET_INFO_S = 1.0
_NOTIFY_S = 5.0
_CALL_S = 45.0
_MAX_PATH = 107
_SERVICES: dict[str, tuple[str, ModuleType]] = {
    "v1.DRAPlugin": ("k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", dra_v1_pb2),
    "v1beta1.DRAPlugin": ("k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin", dra_v1beta1_pb2),
}
# container-orchestrated-devices/container-device-interface, pkg/parser
_CDI_ID = re.compile(
    r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]/[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?"
)


class PluginError(Exception):
    """The plugin broke the protocol, or said that something failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedClaim:
    """One claim as kubelet remembers it."""

    devices: list[Any]

    @property
    def cdi_ids(self) -> list[str]:
        """All CDI device names of the claim, in order."""
        return [cdi_id for device in self.devices for cdi_id in device.cdi_device_ids]


@dataclass(slots=True)
class Plugin:
    """A registered plugin."""

    name: str
    endpoint: str
    service: str
    socket: Path
    prepared: dict[str, PreparedClaim] = field(default_factory=dict)

    def prepare(self, refs: Sequence[ClaimRef]) -> dict[str, PreparedClaim | str]:
        """NodePrepareResources: for each UID its devices or the plugin's error.

        Raises:
            PluginError: the answer breaks the protocol.
        """
        response = self._call("NodePrepareResources", refs)
        _check_uids(refs, response.claims)
        answers: dict[str, PreparedClaim | str] = {}
        for ref in refs:
            answer = response.claims[ref.uid]
            answers[ref.uid] = answer.error or PreparedClaim(devices=list(answer.devices))
            if not answer.error:
                _check_devices(answer.devices)
                self.prepared[ref.uid] = PreparedClaim(devices=list(answer.devices))
        return answers

    def unprepare(self, refs: Sequence[ClaimRef]) -> dict[str, str]:
        """NodeUnprepareResources: for each UID the plugin's error, or "".

        Raises:
            PluginError: the answer breaks the protocol.
        """
        response = self._call("NodeUnprepareResources", refs)
        _check_uids(refs, response.claims)
        for ref in refs:
            if not response.claims[ref.uid].error:
                self.prepared.pop(ref.uid, None)
        return {ref.uid: response.claims[ref.uid].error for ref in refs}

    def _call(self, method: str, refs: Sequence[ClaimRef]) -> Any:
        name, messages = _SERVICES[self.service]
        request = getattr(messages, f"{method}Request")(
            claims=[messages.Claim(namespace=ref.namespace, name=ref.name, uid=ref.uid) for ref in refs]
        )
        response = getattr(messages, f"{method}Response")
        return _call(Path(self.endpoint), f"/{name}/{method}", request, response.FromString, timeout_s=_CALL_S)


class FakeKubelet:
    """Looks into the registry directory when asked to."""

    def __init__(self, registry_dir: Path, *, versions: Iterable[str] = tuple(_SERVICES)) -> None:
        """A kubelet that watches `registry_dir` and speaks these versions of the DRA service."""
        self._registry_dir = registry_dir
        self._versions = tuple(versions)
        self.plugins: dict[Path, Plugin] = {}
        """Registered plugins by their registration socket."""
        self.refused: dict[Path, str] = {}
        """Why a socket's plugin was not registered."""

    def scan(self) -> list[Plugin]:
        """Register whatever has a socket and deregister whatever lost it; gives the registered plugins."""
        found = {path for path in self._registry_dir.rglob("*") if not path.name.startswith(".") and _is_socket(path)}
        for path in set(self.plugins) - found:
            del self.plugins[path]
        for path in sorted(found - set(self.plugins)):
            try:
                self.plugins[path] = self._register(path)
                self.refused.pop(path, None)
            except PluginError as error:
                self.refused[path] = str(error)
        return list(self.plugins.values())

    def restart(self) -> None:
        """Forget everything, as a kubelet does that starts anew."""
        self.plugins.clear()
        self.refused.clear()

    def _register(self, path: Path) -> Plugin:
        info: registration.PluginInfo = _call(
            path,
            "/pluginregistration.Registration/GetInfo",
            registration.InfoRequest(),
            registration.PluginInfo.FromString,
            timeout_s=_GET_INFO_S,
        )
        try:
            plugin = self._accept(path, info)
        except PluginError as error:
            self._notify(path, registered=False, error=str(error))
            raise
        self._notify(path, registered=True, error="")
        return plugin

    def _accept(self, path: Path, info: registration.PluginInfo) -> Plugin:
        if info.type != "DRAPlugin" or not info.name:
            raise PluginError(f"type {info.type!r}, name {info.name!r}")
        if not info.endpoint.startswith("/") or len(info.endpoint) > _MAX_PATH:
            raise PluginError(f"endpoint {info.endpoint!r} is not the path of a socket")
        if not _is_socket(Path(info.endpoint)):
            raise PluginError(f"no socket at {info.endpoint}")
        if any(plugin.endpoint == info.endpoint for plugin in self.plugins.values()):
            raise PluginError(f"endpoint already registered: {info.endpoint}")
        service = next((version for version in info.supported_versions if version in self._versions), None)
        if service is None:
            raise PluginError(f"none of {list(info.supported_versions)} is supported, only {list(self._versions)}")
        return Plugin(name=info.name, endpoint=info.endpoint, service=service, socket=path)

    def _notify(self, path: Path, *, registered: bool, error: str) -> None:
        _call(
            path,
            "/pluginregistration.Registration/NotifyRegistrationStatus",
            registration.RegistrationStatus(plugin_registered=registered, error=error),
            registration.RegistrationStatusResponse.FromString,
            timeout_s=_NOTIFY_S,
        )


def _call(path: Path, method: str, request: Any, decode: Any, *, timeout_s: float) -> Any:
    options = (("grpc.default_authority", "localhost"), ("grpc.use_local_subchannel_pool", 1))
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        call = channel.unary_unary(method, type(request).SerializeToString, decode)
        try:
            return call(request, timeout=timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            raise PluginError(f"{method}: {error}") from error


def _check_uids(refs: Sequence[ClaimRef], answered: Iterable[str]) -> None:
    asked = {ref.uid for ref in refs}
    answers = set(answered)
    if missing := sorted(asked - answers):
        raise PluginError(f"skipped {len(missing)} ResourceClaims: {missing}")
    if unknown := sorted(answers - asked):
        raise PluginError(f"returned a result for claims that were not asked for: {unknown}")


def _check_devices(devices: Iterable[Any]) -> None:
    for device in devices:
        if not device.pool_name or not device.device_name:
            raise PluginError(f"a device without pool or name: {device}")
        for cdi_id in device.cdi_device_ids:
            if not _CDI_ID.fullmatch(cdi_id):
                raise PluginError(f"{cdi_id!r} is not a qualified CDI device name")


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
