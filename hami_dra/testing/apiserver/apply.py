"""Server-side apply, as far as `ResourceClaim.status.devices` needs it.

A manager owns the fields that it applied last.  Applying less takes the rest away unless somebody else owns it too;
applying another value to somebody's field is a conflict unless forced.  Lists are merged by the keys of their type
(KEP-4817: driver, device, pool, shareID; conditions by type); `data` is one value.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from hami_dra.api.k8s import JsonObject

__all__ = ["Ownership", "merge_patch"]

Key: TypeAlias = tuple[tuple[str, Any], ...]
Path: TypeAlias = tuple["str | Key", ...]
Leaves: TypeAlias = dict[Path, Any]

_LIST_KEYS = {"devices": ("driver", "device", "pool", "shareID"), "conditions": ("type",)}
_ATOMIC = frozenset({"data"})
_ITEM = object()  # the value of a list entry's own path: that the entry exists


@dataclass(slots=True)
class Ownership:
    """Which manager applied which fields of one object's status."""

    managers: dict[str, frozenset[Path]] = field(default_factory=dict)

    def apply(self, live: JsonObject, wanted: JsonObject, *, manager: str, force: bool) -> tuple[JsonObject, list[str]]:
        """Merge what `manager` wants into the live status.

        Returns the new status and the managers in conflict; where there are any, nothing changed.
        """
        old, new = _flatten(live), _flatten(wanted)
        conflicts = [
            other
            for other, paths in self.managers.items()
            if other != manager and any(path in paths and old.get(path) != value for path, value in new.items())
        ]
        if conflicts and not force:
            return live, conflicts
        others: set[Path] = set()
        for other in list(self.managers):
            if other != manager:
                lost = {path for path, value in new.items() if old.get(path) != value}
                self.managers[other] -= lost
                others |= self.managers[other]
        for path in self.managers.get(manager, frozenset()) - new.keys() - others:
            old.pop(path, None)
            if isinstance(path[-1], tuple):  # a list entry: nobody holds it, so it goes with all that is in it
                old = {p: v for p, v in old.items() if p[: len(path)] != path or p in others}
        self.managers[manager] = frozenset(new)
        return _unflatten(old | new), []

    def after_update(self, before: JsonObject, after: JsonObject) -> None:
        """Somebody else wrote the status in another way: whoever owned a changed field has lost it."""
        old, new = _flatten(before), _flatten(after)
        for manager, paths in self.managers.items():
            self.managers[manager] = frozenset(p for p in paths if p in new and new[p] == old.get(p))


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def _flatten(value: Any, path: Path = ()) -> Leaves:
    name = path[-1] if path else ""
    if value is None and name in _LIST_KEYS:  # how the real server shows a required list that is empty
        return {}
    if isinstance(value, dict) and value and name not in _ATOMIC:
        leaves: Leaves = {}
        for key, inner in value.items():
            leaves |= _flatten(inner, (*path, key))
        return leaves
    if isinstance(value, list) and name in _LIST_KEYS:
        leaves = {}
        for item in value:
            key = tuple((k, item[k]) for k in _LIST_KEYS[str(name)] if k in item)
            leaves[*path, key] = _ITEM
            leaves |= _flatten(item, (*path, key))
        return leaves
    return {path: value} if path else {}


def _unflatten(leaves: Leaves) -> JsonObject:
    root: JsonObject = {}
    for path, value in leaves.items():
        node: Any = root
        for part, following in zip(path, (*path[1:], None), strict=True):
            last = following is None
            if isinstance(part, tuple):
                found = next((item for item in node if _key_of(item, part) == part), None)
                if found is None:
                    found = dict(part)
                    node.append(found)
                node = found
            elif last:
                node[part] = copy.deepcopy(value)
            else:
                node = node.setdefault(part, [] if isinstance(following, tuple) else {})
    return root


def _key_of(item: JsonObject, like: Key) -> Key:
    names = _LIST_KEYS["devices"] if "driver" in dict(like) else _LIST_KEYS["conditions"]
    return tuple((k, item[k]) for k in names if k in item)
