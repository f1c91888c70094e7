"""A second DRA driver on a node, as small as kubelet lets it be: prepares everything, gives nothing.

Run as a program in a node's namespaces; serves until it is killed.
"""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from hami_dra._gen import dra_v1_pb2 as dra
from hami_dra._gen import plugin_registration_pb2 as registration

DRIVER = "other.example.com"
KUBELET = Path("/var/lib/kubelet")


def _handler(service: str, methods: dict[str, tuple[Any, Callable[[Any], Any]]]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        service,
        {
            name: grpc.unary_unary_rpc_method_handler(
                lambda request, _context, answer=answer: answer(request),
                request_deserializer=request_type.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, (request_type, answer) in methods.items()
        },
    )


def _prepare(request: dra.NodePrepareResourcesRequest) -> dra.NodePrepareResourcesResponse:
    return dra.NodePrepareResourcesResponse(
        claims={claim.uid: dra.NodePrepareResourceResponse() for claim in request.claims}
    )


def _unprepare(request: dra.NodeUnprepareResourcesRequest) -> dra.NodeUnprepareResourcesResponse:
    return dra.NodeUnprepareResourcesResponse(
        claims={claim.uid: dra.NodeUnprepareResourceResponse() for claim in request.claims}
    )


def _serve(socket: Path, service: str, methods: dict[str, tuple[Any, Callable[[Any], Any]]]) -> grpc.Server:
    socket.parent.mkdir(parents=True, exist_ok=True)
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_handler(service, methods),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def main() -> None:
    """Serve both sockets until a signal."""
    endpoint = KUBELET / "plugins" / DRIVER / "dra.sock"
    info = registration.PluginInfo(
        type="DRAPlugin", name=DRIVER, endpoint=str(endpoint), supported_versions=["v1.DRAPlugin"]
    )
    servers = [
        _serve(
            endpoint,
            "k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin",
            {
                "NodePrepareResources": (dra.NodePrepareResourcesRequest, _prepare),
                "NodeUnprepareResources": (dra.NodeUnprepareResourcesRequest, _unprepare),
            },
        ),
        _serve(
            KUBELET / "plugins_registry" / f"{DRIVER}-reg.sock",
            "pluginregistration.Registration",
            {
                "GetInfo": (registration.InfoRequest, lambda _request: info),
                "NotifyRegistrationStatus": (
                    registration.RegistrationStatus,
                    lambda _status: registration.RegistrationStatusResponse(),
                ),
            },
        ),
    ]
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for server in servers:
        server.stop(grace=None)


if __name__ == "__main__":
    main()
