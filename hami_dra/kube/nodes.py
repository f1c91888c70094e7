"""What the driver needs to know of its Node object."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from hami_dra.kube.reflector import Collection

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject
    from hami_dra.core.ids import NodeName
    from hami_dra.kube.transport import Transport

__all__ = ["labels_of_node", "node_collection", "node_uid"]


def node_uid(transport: Transport, node: NodeName) -> str:
    """The UID of the Node, which owns its slices: with the node they go.

    A node that was deleted and came back has another one, so ask again before each publication.

    Raises:
        KubeError: `NotFound` while kubelet has not registered the node.
    """
    return str(transport.request("GET", f"/api/v1/nodes/{quote(node, safe='')}").body["metadata"]["uid"])


def node_collection(node: NodeName) -> Collection:
    """That node alone, for a reflector."""
    return Collection("/api/v1/nodes", field_selector=f"metadata.name={node}")


def labels_of_node(obj: JsonObject) -> JsonObject:
    """What is kept of a Node: who it is, and its labels; its status is large and changes every few minutes."""
    metadata = obj["metadata"]
    kept = {name: metadata[name] for name in ("name", "uid", "resourceVersion")}
    return {"metadata": kept | {"labels": metadata.get("labels") or {}}}
