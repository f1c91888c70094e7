"""Which Kubernetes this is, and what it has switched on.

The version says how a slice may be laid out (1.35 moved shared counters into slices of their own).  Feature gates are for
explanations only: what the API server really keeps is found out by reading back what was written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra.core.errors import Forbidden

if TYPE_CHECKING:
    from hami_dra.kube.transport import Transport

__all__ = ["ServerVersion", "feature_gates", "server_version"]

_TIMEOUT_S = 30.0
_GATE = re.compile(rb'kubernetes_feature_enabled\{name="(\w+)",stage="[^"]*"\} ([01])')


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


def feature_gates(transport: Transport) -> dict[str, bool] | None:
    """The API server's gates by name, from its metrics; None when we may not read them, which is the usual case."""
    gates: dict[str, bool] = {}
    try:
        with transport.stream("/metrics", query={}, timeout_s=_TIMEOUT_S) as lines:
            for line in lines:
                if found := _GATE.match(line):
                    gates[found[1].decode()] = found[2] == b"1"
    except Forbidden:
        return None
    return gates
