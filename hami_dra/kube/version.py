"""Which Kubernetes this is.

For explanations, and to notice an upgrade: what the API server really keeps is found out by reading back what was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hami_dra.kube.transport import Transport

__all__ = ["ServerVersion", "server_version"]


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """Version of the API server, such as 1.36; `text` is all that it says, such as `v1.36.3-gke.1`."""

    major: int
    minor: int
    text: str = ""


def server_version(transport: Transport) -> ServerVersion:
    """Ask the API server for its version.  Some vendors write minors like `36+`."""
    body = transport.request("GET", "/version").body
    major, minor = (int(re.sub(r"\D.*", "", body[key])) for key in ("major", "minor"))
    return ServerVersion(major, minor, body["gitVersion"])
