"""What the driver needs to know of its Node object."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from hami_dra.core.ids import NodeName
    from hami_dra.kube.transport import Transport

__all__ = ["node_uid"]


def node_uid(transport: Transport, node: NodeName) -> str:
    """The UID of the Node, which owns its slices: with the node they go.

    A node that was deleted and came back has another one, so ask again before each publication.

    Raises:
        KubeError: `NotFound` while kubelet has not registered the node.
    """
    return str(transport.request("GET", f"/api/v1/nodes/{quote(node, safe='')}").body["metadata"]["uid"])
