"""The resources that the fake API server serves, and how their paths read.

One table; everything else of the fake is the same for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra.core.errors import NotFound

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject

__all__ = ["RESOURCES", "Interest", "Resource", "Target", "parse_path", "resource_of"]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object.

    `selectors` are the field selectors that the real server knows for it; `has_status` says whether status is a
    subresource, so that writes of the object leave it alone; `needs_version` that an update must carry a resourceVersion.
    """

    api_version: str
    plural: str
    kind: str
    namespaced: bool = False
    selectors: tuple[str, ...] = ()
    has_status: bool = False
    needs_version: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Interest:
    """What a list or a watch asks for: a collection, narrowed by values of fields and labels."""

    target: Target
    fields: dict[str, str]
    labels: dict[str, str]

    def selects(self, obj: JsonObject) -> bool:
        """Whether `obj`, of the right resource, belongs to it."""
        meta = obj["metadata"]
        labels = meta.get("labels") or {}
        return (
            self.target.namespace in {"", meta.get("namespace", "")}
            and all(_field(obj, path) == value for path, value in self.fields.items())
            and all(labels.get(key) == value for key, value in self.labels.items())
        )


_DRA = "resource.k8s.io/v1"
RESOURCES = (
    Resource(_DRA, "resourceslices", "ResourceSlice", selectors=("spec.nodeName", "spec.driver")),
    Resource(_DRA, "resourceclaims", "ResourceClaim", namespaced=True, has_status=True),
    Resource(_DRA, "resourceclaimtemplates", "ResourceClaimTemplate", namespaced=True),
    Resource(_DRA, "deviceclasses", "DeviceClass"),
    Resource("v1", "nodes", "Node", has_status=True),
    Resource("v1", "pods", "Pod", namespaced=True, selectors=("spec.nodeName", "status.phase"), has_status=True),
    Resource("v1", "configmaps", "ConfigMap", namespaced=True),
    Resource("v1", "events", "Event", namespaced=True, selectors=("involvedObject.uid", "reason")),
    Resource("coordination.k8s.io/v1", "leases", "Lease", namespaced=True, needs_version=True),
    Resource("v1", "namespaces", "Namespace", has_status=True),  # last: its paths are prefixes of those of others
)
_BY_PREFIX = {(("/api/" if r.api_version == "v1" else "/apis/") + r.api_version, r.plural): r for r in RESOURCES}
_BY_KIND = {(r.api_version, r.kind): r for r in RESOURCES}


def resource_of(obj: JsonObject) -> Resource:
    """The resource of an object, by its apiVersion and kind."""
    return _BY_KIND[obj["apiVersion"], obj["kind"]]


def parse_path(path: str) -> Target:
    """What `path` names.

    Raises:
        NotFound: the fake does not serve it.
    """
    for (prefix, plural), resource in _BY_PREFIX.items():
        if not path.startswith(prefix + "/"):
            continue
        rest = path[len(prefix) + 1 :].split("/")
        namespace = ""
        if resource.namespaced and rest[0] == "namespaces" and len(rest) > 2:  # noqa: PLR2004 - namespaces/<name>/<plural>
            namespace, rest = rest[1], rest[2:]
        if rest[0] == plural and (namespace or not resource.namespaced or len(rest) == 1):
            name, subresource = [*rest[1:], "", ""][:2]
            return Target(resource, namespace, name, subresource)
    raise NotFound(f"{path}: 404 NotFound: the server could not find the requested resource", of_object=False)


def _field(obj: JsonObject, path: str) -> str:
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)
