"""What may be written to the fake API server, and what comes of it: the verbs, over the store.

Preconditions, subresources, generated names, apply and validation are here; the wire, watches and faults are the
server's.  Invariant: a refused request changes nothing.
"""

from __future__ import annotations

import copy
import random
import uuid
from typing import TYPE_CHECKING, NoReturn

from hami_dra._lib.clock import Clock, rfc3339
from hami_dra.kube.status import kube_error
from hami_dra.kube.transport import APPLY_PATCH, MERGE_PATCH
from hami_dra.testing.apiserver.admission import claim_status_errors, drop_closed_fields, slice_errors
from hami_dra.testing.apiserver.apply import merge_patch
from hami_dra.testing.apiserver.resources import Interest, Target
from hami_dra.testing.apiserver.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hami_dra.api.k8s import JsonObject

__all__ = ["Registry", "refuse"]

_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_OTHER_UID = "Precondition failed: UID in precondition does not match the UID in object meta"


class Registry:
    """The verbs.  Methods are called with `store.changed` held."""

    def __init__(self, *, gates: Mapping[str, bool], clock: Clock) -> None:
        self.store = Store()
        self._gates = gates
        self._clock = clock

    def list(self, target: Target, query: Mapping[str, str]) -> JsonObject:
        """A page of a collection."""
        interest = self.interest(target, query)
        if token := query.get("continue"):
            page = self.store.take_page(token)
            if page is None:
                message = "The provided continue parameter is too old to display a consistent list result."
                refuse("GET", target, code=410, reason="Expired", message=message)
            version, objects = page
        else:
            version = self.store.version
            objects = self.store.select(interest)
        meta: JsonObject = {"resourceVersion": str(version)}
        limit = int(query.get("limit", 0))
        if limit and len(objects) > limit:
            objects, rest = objects[:limit], objects[limit:]
            meta |= {"continue": self.store.keep_page(version, rest), "remainingItemCount": len(rest)}
        items = [{k: v for k, v in obj.items() if k not in {"kind", "apiVersion"}} for obj in objects]
        resource = target.resource
        return {"kind": resource.kind + "List", "apiVersion": resource.api_version, "metadata": meta, "items": items}

    def create(self, target: Target, sent: JsonObject, *, dry_run: bool) -> JsonObject:
        """POST; a dry run answers what it would be and keeps nothing."""
        resource = target.resource
        obj: JsonObject = {"kind": resource.kind, "apiVersion": resource.api_version, **sent}
        meta = obj.setdefault("metadata", {})
        if resource.namespaced:
            meta["namespace"] = target.namespace
        if resource.has_status:
            obj.pop("status", None)
        if meta.get("resourceVersion"):  # really: the server calls this its own error
            refuse(
                "POST",
                target,
                code=500,
                reason="",
                message="resourceVersion should not be set on objects to be created",
            )
        if not meta.get("name") and not meta.get("generateName"):
            refuse(
                "POST",
                target,
                code=422,
                reason="Invalid",
                message="metadata.name: Required value: name or generateName is required",
            )
        obj = self.with_identity(obj)
        name = meta["name"]
        if self.store.get(resource, target.namespace, name) is not None:
            refuse(
                "POST", target, code=409, reason="AlreadyExists", message=f'{resource.plural} "{name}" already exists'
            )
        self._admit("POST", target, obj, None)
        return obj if dry_run else self.store.put(resource, obj)

    def update(self, target: Target, old: JsonObject, obj: JsonObject) -> JsonObject:
        """PUT of an object or of its status."""
        resource = target.resource
        meta = obj.setdefault("metadata", {})
        for key, why in (("uid", _OTHER_UID), ("resourceVersion", _MODIFIED)):
            if meta.get(key, old["metadata"][key]) != old["metadata"][key]:
                message = f'Operation cannot be fulfilled on {resource.plural} "{target.name}": {why}'
                refuse("PUT", target, code=409, reason="Conflict", message=message)
        if resource.needs_version and not meta.get("resourceVersion"):
            message = "metadata.resourceVersion: Invalid value: 0: must be specified for an update"
            refuse("PUT", target, code=422, reason="Invalid", message=message)
        if target.subresource == "status":
            new = old | {"status": obj.get("status", {})}
            self._drop_deallocated(old, new)
        else:
            new = {"kind": resource.kind, "apiVersion": resource.api_version, **obj}
            kept = ("name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp")
            new["metadata"] = meta | {key: old["metadata"][key] for key in kept if key in old["metadata"]}
            if resource.has_status:
                new.pop("status", None)
                new |= {"status": old["status"]} if "status" in old else {}
            if "generation" in old["metadata"] and new.get("spec") != old.get("spec"):
                new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self._admit("PUT", target, new, old)
        self.store.ownership(old).after_update(old.get("status", {}), new.get("status", {}))
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers"):
            self.store.remove(resource, new)
            return new
        return self.store.put(resource, new)

    def patch(self, target: Target, body: JsonObject, *, query: Mapping[str, str], content_type: str) -> JsonObject:
        """Server-side apply of a claim's status, or a merge patch of anything."""
        old = self.find(target)
        if content_type == MERGE_PATCH:
            return self.update(target, old, merge_patch(old, body))
        if content_type != APPLY_PATCH or (target.resource.plural, target.subresource) != ("resourceclaims", "status"):
            message = "the fake API server applies the status of ResourceClaims only"
            refuse("PATCH", target, code=415, reason="UnsupportedMediaType", message=message)
        if not query.get("fieldManager"):
            refuse(
                "PATCH",
                target,
                code=422,
                reason="Invalid",
                message="fieldManager: Required value: is required for apply patch",
            )
        if (body.get("metadata") or {}).get("uid", old["metadata"]["uid"]) != old["metadata"]["uid"]:
            message = f'metadata.uid: Invalid value: "{body["metadata"]["uid"]}": field is immutable'
            refuse("PATCH", target, code=422, reason="Invalid", message=message)
        ownership = copy.deepcopy(self.store.ownership(old))
        live = old.get("status", {})
        status, conflicts = ownership.apply(
            live, body.get("status", {}), manager=query["fieldManager"], force=query.get("force") == "true"
        )
        if conflicts:
            who = ", ".join(f'"{manager}"' for manager in conflicts)
            refuse("PATCH", target, code=409, reason="Conflict", message=f"Apply failed with a conflict with {who}")
        for device in status.get("devices", []):
            device.setdefault("conditions", None)  # required in the API's Go type, hence never left out
        new = old | {"status": status}
        self._admit("PATCH", target, new, old)
        self.store.ownership(old).managers = ownership.managers
        return self.store.put(target.resource, new)

    def delete(self, target: Target, options: JsonObject) -> JsonObject:
        """DELETE, which only marks an object that has finalizers."""
        old = self.find(target)
        for key, value in (options.get("preconditions") or {}).items():
            if old["metadata"][key] != value:
                message = f"the {key} in the precondition ({value}) does not match that of the record"
                refuse("DELETE", target, code=409, reason="Conflict", message=message)
        if old["metadata"].get("finalizers"):
            old["metadata"].setdefault("deletionTimestamp", rfc3339(self._clock.now()))
            return self.store.put(target.resource, old)
        self.store.remove(target.resource, old)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def find(self, target: Target) -> JsonObject:
        """GET of one object."""
        obj = self.store.get(target.resource, target.namespace, target.name)
        if obj is None:
            refuse(
                "GET",
                target,
                code=404,
                reason="NotFound",
                message=f'{target.resource.plural} "{target.name}" not found',
            )
        return obj

    def _admit(self, method: str, target: Target, obj: JsonObject, old: JsonObject | None) -> None:
        drop_closed_fields(obj, self._gates)
        errors: list[str] = []
        if obj["kind"] == "ResourceSlice":
            errors = slice_errors(obj, old)
        elif obj["kind"] == "ResourceClaim" and target.subresource == "status":
            errors = claim_status_errors(obj.get("status", {}))
        if errors:
            said = f'{obj["kind"]} "{obj["metadata"]["name"]}" is invalid: {"; ".join(errors)}'
            refuse(method, target, code=422, reason="Invalid", message=said)

    def with_identity(self, obj: JsonObject) -> JsonObject:
        """Give a new object what the server gives it: name, uid, times."""
        meta = obj["metadata"]
        if not meta.get("name"):
            meta["name"] = meta["generateName"] + "".join(random.choices(_SUFFIX_LETTERS, k=5))  # noqa: S311 - a name
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", rfc3339(self._clock.now()))
        if obj["kind"] == "ResourceSlice":
            meta["generation"] = 1
        return obj

    @staticmethod
    def _drop_deallocated(old: JsonObject, new: JsonObject) -> None:
        """As the real server does: the status of a device goes with its allocation."""
        if old.get("status", {}).get("allocation") and not new["status"].get("allocation"):
            new["status"].pop("devices", None)

    def interest(self, target: Target, query: Mapping[str, str]) -> Interest:
        """What a list or watch asks for; refuses field selectors that the real server does not know."""
        fields = _pairs(query.get("fieldSelector", ""))
        for name in fields:
            if name not in {"metadata.name", "metadata.namespace", *target.resource.selectors}:
                refuse("GET", target, code=400, reason="BadRequest", message=f'field label not supported: "{name}"')
        return Interest(target, fields, _pairs(query.get("labelSelector", "")))


def refuse(method: str, target: Target, *, code: int, reason: str, message: str) -> NoReturn:
    """Raise what the real server answers."""
    where = "/".join(part for part in (target.resource.plural, target.namespace, target.name) if part)
    status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}
    raise kube_error(f"{method} {where}", code=code, status=status)


def _pairs(selector: str) -> dict[str, str]:
    return dict(pair.replace("==", "=").split("=", 1) for pair in selector.split(",") if pair)
