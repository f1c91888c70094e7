"""The one ConfigMap that a process follows.

Narrowed by name, so that a Role with `resourceNames` is all the right it takes: RBAC allows a list or watch by that rule only
where the request selects exactly that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from hami_dra.kube.reflector import Collection

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject

__all__ = ["config_map_collection", "data_of_config_map"]


def config_map_collection(*, namespace: str, name: str) -> Collection:
    """For a reflector."""
    return Collection(
        f"/api/v1/namespaces/{quote(namespace, safe='')}/configmaps", field_selector=f"metadata.name={name}"
    )


def data_of_config_map(obj: JsonObject) -> JsonObject:
    """What is kept of a ConfigMap: who it is, and its texts."""
    kept = {name: obj["metadata"][name] for name in ("namespace", "name", "uid", "resourceVersion")}
    return {"metadata": kept, "data": obj.get("data") or {}}
