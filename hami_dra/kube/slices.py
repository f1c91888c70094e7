"""The ResourceSlices of one driver on one node.

Which slices there should be is for `core.slices` and `core.slice_diff`, writing them in the right order for the publisher.
Invariant: nothing here reads or writes a slice of another node or driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from hami_dra.core.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hami_dra.api.k8s import JsonObject, ResourceSlice
    from hami_dra.core.ids import NodeName
    from hami_dra.kube.transport import Transport

__all__ = ["SLICES_PATH", "NodeSlices"]

SLICES_PATH = "/apis/resource.k8s.io/v1/resourceslices"
_PAGE = 500


class NodeSlices:
    """List, create, update and delete them."""

    def __init__(self, transport: Transport, *, driver: str, node: NodeName) -> None:
        self._transport = transport
        self.field_selector = f"spec.driver={driver},spec.nodeName={node}"
        """For a reflector over the same slices."""

    def list(self) -> list[ResourceSlice]:
        """All of them, as the API server holds them."""
        query = {"fieldSelector": self.field_selector, "limit": str(_PAGE)}
        slices: list[ResourceSlice] = []
        while True:
            body = self._transport.request("GET", SLICES_PATH, query=query).body
            slices += cast("list[ResourceSlice]", body.get("items") or [])
            token = body["metadata"].get("continue")
            if not token:
                return slices
            query["continue"] = token

    def create(self, wanted: ResourceSlice) -> ResourceSlice:
        """Create one; returns what the server kept, which may be less than was sent.

        Raises:
            KubeError: `Invalid` where it breaks a rule of the API.
        """
        return self._write("POST", SLICES_PATH, wanted)

    def try_create(self, wanted: ResourceSlice) -> ResourceSlice:
        """What the server would keep of one, which is not created.

        Raises:
            KubeError: `Invalid` where it breaks a rule of this server's API.
        """
        return self._write("POST", SLICES_PATH, wanted, query={"dryRun": "All"})

    def update(self, wanted: ResourceSlice) -> ResourceSlice:
        """Replace one, at the `metadata.resourceVersion` that it carries; returns what the server kept.

        Raises:
            KubeError: `Conflict` if somebody wrote it since, `NotFound` if it is gone.
        """
        return self._write("PUT", _path(wanted), wanted)

    def delete(self, doomed: ResourceSlice) -> None:
        """Delete one, if it is still the object that `doomed` is; one that is gone already is no error.

        Raises:
            KubeError: `Conflict` if somebody wrote it since.
        """
        meta = doomed["metadata"]
        preconditions = {key: meta[key] for key in ("uid", "resourceVersion") if key in meta}
        options: JsonObject = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
        try:
            self._transport.request("DELETE", _path(doomed), body=options)
        except NotFound:
            return

    def _write(
        self, method: str, path: str, wanted: ResourceSlice, *, query: Mapping[str, str] | None = None
    ) -> ResourceSlice:
        body: JsonObject = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", **wanted}
        return cast("ResourceSlice", self._transport.request(method, path, query=query, body=body).body)


def _path(of: ResourceSlice) -> str:
    return f"{SLICES_PATH}/{quote(of['metadata']['name'], safe='')}"
