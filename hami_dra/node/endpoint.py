"""The gRPC services that kubelet calls, v1 and v1beta1: translation and nothing else.

Both versions have the same messages under different names; v1 alone carries the share's id (a 1.34 kubelet ignores it).
`node.service` answers.
"""

from types import ModuleType
from typing import Any

import grpc

from hami_dra._gen import dra_v1_pb2, dra_v1beta1_pb2
from hami_dra.core.ids import ClaimUid
from hami_dra.node.service import ClaimService, Failure
from hami_dra.node.state import ClaimRef, PreparedDevice

__all__ = ["SUPPORTED_VERSIONS", "dra_handlers"]

SUPPORTED_VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
"""As registration wants them; kubelet takes the first that it knows."""


def dra_handlers(service: ClaimService) -> list[grpc.GenericRpcHandler]:
    """Handlers of both versions of the DRA service, for a gRPC server."""
    return [
        _handlers("k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin", _Endpoint(service, dra_v1_pb2, share_ids=True)),
        _handlers(
            "k8s.io.kubelet.pkg.apis.dra.v1beta1.DRAPlugin", _Endpoint(service, dra_v1beta1_pb2, share_ids=False)
        ),
    ]


class _Endpoint:
    """One version of the service."""

    def __init__(self, service: ClaimService, messages: ModuleType, *, share_ids: bool) -> None:
        self.messages = messages
        self._service = service
        self._share_ids = share_ids

    def prepare(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """NodePrepareResources."""
        response = self.messages.NodePrepareResourcesResponse()
        for uid, answer in self._service.prepare(_refs(request)).items():
            entry = response.claims[uid]
            if isinstance(answer, Failure):
                entry.error = answer
            else:
                entry.devices.extend(self._device(device) for device in answer)
        return response

    def unprepare(self, request: Any, _context: grpc.ServicerContext) -> Any:
        """NodeUnprepareResources."""
        response = self.messages.NodeUnprepareResourcesResponse()
        for uid, failure in self._service.unprepare(_refs(request)).items():
            response.claims[uid].error = failure or ""
        return response

    def _device(self, device: PreparedDevice) -> Any:
        message = self.messages.Device(
            request_names=[device.request],
            pool_name=device.pool,
            device_name=device.device,
            cdi_device_ids=[device.cdi_id],
        )
        if self._share_ids and device.share_id is not None:
            message.share_id = device.share_id
        return message


def _refs(request: Any) -> list[ClaimRef]:
    """The claims of a request; one that is named twice is one."""
    refs = {
        claim.uid: ClaimRef(namespace=claim.namespace, name=claim.name, uid=ClaimUid(claim.uid))
        for claim in request.claims
    }
    return list(refs.values())


def _handlers(name: str, endpoint: _Endpoint) -> grpc.GenericRpcHandler:
    messages = endpoint.messages
    return grpc.method_handlers_generic_handler(
        name,
        {
            "NodePrepareResources": grpc.unary_unary_rpc_method_handler(
                endpoint.prepare,
                request_deserializer=messages.NodePrepareResourcesRequest.FromString,
                response_serializer=messages.NodePrepareResourcesResponse.SerializeToString,
            ),
            "NodeUnprepareResources": grpc.unary_unary_rpc_method_handler(
                endpoint.unprepare,
                request_deserializer=messages.NodeUnprepareResourcesRequest.FromString,
                response_serializer=messages.NodeUnprepareResourcesResponse.SerializeToString,
            ),
        },
    )
