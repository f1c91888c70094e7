"""Serves the two sockets and keeps them where kubelet looks.

The DRA socket comes first, then the one for registration: kubelet dials the first as soon as it has seen the second.  Each has
a server and threads of its own, because kubelet waits one second for GetInfo and does not care how busy Prepare is.
Kubelet's directories may be wiped while this process lives (`kubeadm reset`); `run` notices and listens anew.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from hami_dra._gen import plugin_registration_pb2 as registration
from hami_dra._lib.threads import Group
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import NodeStateError
from hami_dra.node.sockets import DeadSockets, SocketPaths

__all__ = ["Registrar"]

_log = logging.getLogger(__name__)

_OPTIONS = (("grpc.so_reuseport", 0),)
_STOP_S = 10.0


class Registrar:
    """Both servers of one instance."""

    def __init__(
        self,
        *,
        paths: SocketPaths,
        handlers: Sequence[grpc.GenericRpcHandler],
        versions: Sequence[str],
        group: Group,
        workers: int = 16,
        check_s: float = 2.0,
        driver: str = DRIVER,
    ) -> None:
        """Nothing listens before `start`.

        Args:
            paths: of the sockets.
            handlers: of the services that kubelet calls.
            versions: their names as registration wants them.
            group: whose stop ends `run`.
            workers: how many calls of kubelet are worked on at once.
            check_s: how often `run` looks whether the sockets are still there.
            driver: name under which kubelet knows the plugin.
        """
        self._paths = paths
        self._handlers = list(handlers)
        self._versions = list(versions)
        self._group = group
        self._workers = workers
        self._check_s = check_s
        self._driver = driver
        self._dead = DeadSockets(paths, driver=driver)
        self._servers: list[grpc.Server] = []
        self._registered = False

    @property
    def registered(self) -> bool:
        """Whether kubelet has said that it took the plugin."""
        return self._registered

    def start(self) -> None:
        """Listen on both sockets.

        Raises:
            NodeStateError: a socket could not be made.
        """
        self._serve(self._paths.plugin, self._handlers, workers=self._workers, name="dra")
        self._serve(self._paths.registration, [self._registration_handler()], workers=2, name="registration")
        _log.info("listening for kubelet", extra={"socket": str(self._paths.registration)})

    def run(self) -> None:
        """See to it that the sockets stay until the group stops; then close them."""
        while not self._group.wait(self._check_s):
            for path in self._dead.remove():
                _log.info("removed a socket on which nobody listens", extra={"path": str(path)})
            lost = [path for path in (self._paths.plugin, self._paths.registration) if not path.exists()]
            if lost:
                _log.warning("sockets are gone, listening anew", extra={"paths": [str(path) for path in lost]})
                self.stop()
                self.start()
        self.stop()

    def stop(self) -> None:
        """Deregister, then let calls that run come to their end."""
        self._registered = False
        servers, self._servers = self._servers, []
        for server in reversed(servers):
            server.stop(grace=_STOP_S).wait()

    def _serve(self, path: Path, handlers: Sequence[grpc.GenericRpcHandler], *, workers: int, name: str) -> None:
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)
            server = grpc.server(executor, handlers=list(handlers), options=_OPTIONS)
            server.add_insecure_port(f"unix:{path}")
            server.start()
        except (OSError, RuntimeError) as error:
            raise NodeStateError(f"cannot listen on {path}: {error}") from error
        self._servers.append(server)

    def _registration_handler(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            "pluginregistration.Registration",
            {
                "GetInfo": grpc.unary_unary_rpc_method_handler(
                    self._get_info,
                    request_deserializer=registration.InfoRequest.FromString,
                    response_serializer=registration.PluginInfo.SerializeToString,
                ),
                "NotifyRegistrationStatus": grpc.unary_unary_rpc_method_handler(
                    self._notify,
                    request_deserializer=registration.RegistrationStatus.FromString,
                    response_serializer=registration.RegistrationStatusResponse.SerializeToString,
                ),
            },
        )

    def _get_info(self, _request: registration.InfoRequest, _context: grpc.ServicerContext) -> registration.PluginInfo:
        return registration.PluginInfo(
            type="DRAPlugin",
            name=self._driver,
            endpoint=str(self._paths.plugin),
            supported_versions=self._versions,
        )

    def _notify(
        self, request: registration.RegistrationStatus, _context: grpc.ServicerContext
    ) -> registration.RegistrationStatusResponse:
        self._registered = request.plugin_registered
        if request.plugin_registered:
            _log.info("registered with kubelet")
        else:
            _log.error("kubelet refused the registration: %s", request.error)
        return registration.RegistrationStatusResponse()
