"""Objects, their versions, and who watches them.

What etcd and the watch cache are to the real server: one counter of resource versions, a history of changes until it is
compacted, snapshots for paginated lists.  What may be written is left to the server.
Invariant: an object that is handed out or in is a copy; nothing that a client holds changes under its hands.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra.testing.apiserver.apply import Ownership

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject
    from hami_dra.testing.apiserver.resources import Interest, Resource

__all__ = ["Change", "Store"]


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history: ADDED, MODIFIED or DELETED."""

    version: int
    type: str
    resource: Resource
    object: JsonObject
    before: JsonObject | None


class Store:
    """All objects of one fake cluster.  Methods are called with `changed` held, which is re-entrant."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 100
        self.compacted = 0
        self.history: list[Change] = []
        self._objects: dict[tuple[Resource, str, str], JsonObject] = {}
        self._ownership: dict[str, Ownership] = {}
        self._pages: dict[str, tuple[int, list[JsonObject]]] = {}

    def get(self, resource: Resource, namespace: str, name: str) -> JsonObject | None:
        """A copy of one object."""
        return copy.deepcopy(self._objects.get((resource, namespace, name)))

    def select(self, interest: Interest) -> list[JsonObject]:
        """Copies of the objects that belong to it, in the order of their names."""
        of_kind = {key[1:]: obj for key, obj in self._objects.items() if key[0] == interest.target.resource}
        return [
            copy.deepcopy(obj) for _, obj in sorted(of_kind.items(), key=lambda item: item[0]) if interest.selects(obj)
        ]

    def put(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """Store an object, new or changed; return a copy with its version.  What is equal is not written again."""
        obj = copy.deepcopy(obj)
        key = self._key(resource, obj)
        before = self._objects.get(key)
        if before is not None:
            obj["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            if obj == before:
                return obj
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._objects[key] = obj
        self._record(Change(self.version, "ADDED" if before is None else "MODIFIED", resource, obj, before))
        return copy.deepcopy(obj)

    def remove(self, resource: Resource, obj: JsonObject) -> None:
        """Delete an object."""
        before = self._objects.pop(self._key(resource, obj))
        self._ownership.pop(before["metadata"]["uid"], None)
        self.version += 1
        last = copy.deepcopy(before)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._record(Change(self.version, "DELETED", resource, last, before))

    def ownership(self, obj: JsonObject) -> Ownership:
        """Who applied what to the status of `obj`."""
        return self._ownership.setdefault(obj["metadata"]["uid"], Ownership())

    def compact(self) -> None:
        """Forget the history and the snapshots of unfinished lists."""
        self.compacted = self.version
        self.history.clear()
        self._pages.clear()
        self.changed.notify_all()

    def keep_page(self, version: int, rest: list[JsonObject]) -> str:
        """Keep the rest of a list as it was at `version`; return its continue token."""
        token = f"{version}.{len(self._pages)}.{len(rest)}"
        self._pages[token] = (version, rest)
        return token

    def take_page(self, token: str) -> tuple[int, list[JsonObject]] | None:
        """The version and the rest that belong to a token, unless it has expired."""
        return self._pages.get(token)

    def _record(self, change: Change) -> None:
        self.history.append(change)
        self.changed.notify_all()

    @staticmethod
    def _key(resource: Resource, obj: JsonObject) -> tuple[Resource, str, str]:
        return resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
