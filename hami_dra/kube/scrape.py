"""The metrics pages of the node plugins, fetched through the API server.

Nobody needs a route to the pods: whoever may `get` the subresource `pods/proxy` in the plugins' namespace may read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from hami_dra.core.errors import KubeError

if TYPE_CHECKING:
    from hami_dra.kube.transport import Transport

__all__ = ["Page", "node_pages"]

_SELECTOR = "app.kubernetes.io/name=hami-dra,app.kubernetes.io/component=node"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one node plugin said, or why it said nothing."""

    node: str
    text: str = ""
    problem: str = ""


def node_pages(transport: Transport, *, namespace: str, port: int) -> list[Page]:
    """One page for each node that has a node plugin in the namespace.

    Raises:
        KubeError: the pods could not be listed.
    """
    path = f"/api/v1/namespaces/{quote(namespace)}/pods"
    pods = transport.request("GET", path, query={"labelSelector": _SELECTOR}).body.get("items", [])
    return [
        _page(transport, f"{path}/{pod['metadata']['name']}:{port}/proxy/metrics", node=pod["spec"]["nodeName"])
        for pod in pods
        if pod.get("spec", {}).get("nodeName") and pod.get("status", {}).get("phase") == "Running"
    ]


def _page(transport: Transport, path: str, *, node: str) -> Page:
    try:
        with transport.stream(path, query={}, timeout_s=_TIMEOUT_S) as lines:
            return Page(node=node, text=b"\n".join(lines).decode("utf-8", errors="replace"))
    except KubeError as error:
        return Page(node=node, problem=f"its node plugin does not answer: {error}")
