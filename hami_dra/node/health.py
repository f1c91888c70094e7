"""How well the plugin is, for kubelet's gRPC probes (grpc.health.v1).

Two questions: `liveness` asks whether both sockets answer, through the sockets themselves, since a socket whose file is gone
serves nobody; restarting the pod helps against that.  `readiness` (the service without a name is the same) also wants kubelet to
have taken the registration and the first slice to be published: an API server that is away must not restart the plugin.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from hami_dra._gen import dra_v1_pb2, grpc_health_v1_pb2
from hami_dra._gen import plugin_registration_pb2 as registration
from hami_dra.core.errors import NodeStateError
from hami_dra.node.sockets import SocketPaths

__all__ = ["LIVENESS", "READINESS", "HealthServer"]

LIVENESS = "liveness"
READINESS = "readiness"
_CALL_S = 1.0
_STOP_S = 1.0

_Response = grpc_health_v1_pb2.HealthCheckResponse


class HealthServer:
    """The health service on a TCP address."""

    def __init__(self, *, address: str, paths: SocketPaths, ready: Callable[[], bool]) -> None:
        """Nothing listens before `start`.

        Args:
            address: as in `[::]:51515` or `127.0.0.1:0`.
            paths: of the sockets to try.
            ready: whether registration and publication are done.
        """
        self._address = address
        self._paths = paths
        self._ready = ready
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=2, thread_name_prefix="health"), handlers=[self._handler()]
        )

    def start(self) -> int:
        """Listen; gives the port.

        Raises:
            NodeStateError: the address is taken or malformed.
        """
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise NodeStateError(f"cannot listen on {self._address} for health probes: {error}") from error
        self._server.start()
        return port

    def stop(self) -> None:
        """Listen no more."""
        self._server.stop(grace=_STOP_S).wait()

    def sockets_answer(self) -> bool:
        """Whether both sockets answer within a second each."""
        return _answers(
            str(self._paths.registration),
            "/pluginregistration.Registration/GetInfo",
            registration.InfoRequest().SerializeToString(),
        ) and _answers(
            str(self._paths.plugin),
            "/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/NodePrepareResources",
            dra_v1_pb2.NodePrepareResourcesRequest().SerializeToString(),
        )

    def _check(self, request: grpc_health_v1_pb2.HealthCheckRequest, context: grpc.ServicerContext) -> _Response:
        if request.service not in {"", READINESS, LIVENESS}:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"unknown service {request.service!r}; there are {READINESS} and {LIVENESS}"
            )
        serving = (request.service == LIVENESS or self._ready()) and self.sockets_answer()
        return _Response(status=_Response.SERVING if serving else _Response.NOT_SERVING)

    def _handler(self) -> grpc.GenericRpcHandler:
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=grpc_health_v1_pb2.HealthCheckRequest.FromString,
            response_serializer=_Response.SerializeToString,
        )
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})


def _answers(path: str, method: str, request: bytes) -> bool:
    """Whether a server on that socket answers; what it says does not matter, so nothing is decoded."""
    with grpc.insecure_channel(f"unix:{path}", options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        try:
            channel.unary_unary(method, bytes, bytes)(request, timeout=_CALL_S)
        except grpc.RpcError:
            return False
    return True
