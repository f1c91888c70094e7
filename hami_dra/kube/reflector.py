"""A collection of the API server, kept in memory and told to a handler.

List, then watch from there: paginated lists, bookmarks, 410 means list again, and a back-off with jitter for everything
that goes wrong, so that not even a server which fails at once is asked more than once a second for long.  What to do about
a change is left to the handler, which usually puts a key into a `WorkQueue`; an error that it raises stops the group.
Invariant: the handler sees each object's life in order (added, modified…, deleted) and nothing twice; between two calls
the cache holds exactly what the handler was told.
"""

from __future__ import annotations

import logging
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hami_dra._lib import strictjson
from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.core.errors import ApiUnavailable, Gone, KubeError
from hami_dra.kube.status import kube_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hami_dra._lib.threads import Event, Group
    from hami_dra.api.k8s import JsonObject
    from hami_dra.kube.transport import Transport

__all__ = ["Collection", "Handler", "Reflector"]

_log = logging.getLogger(__name__)

_PAGE = 500
_BASE_S = 0.2
_CAP_S = 30.0
_LIST_TIMEOUT_S = 60.0
# A watch that lived this long was a good one: the next failure is a new one.
_HEALTHY_S = 10.0
# One that ended sooner than this is a failure, even if it ended politely.
_SHORT_S = 1.0
# How much longer than asked for a watch may last before its silence means that the peer is gone.
_GRACE_S = 10.0

_Key: TypeAlias = tuple[str, str]


class Handler(Protocol):
    """Who is told.  Called in the reflector's thread; must not block for long, must not change the objects."""

    def added(self, obj: JsonObject) -> None:
        """There is a new object."""
        ...

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """An object changed from `old`."""
        ...

    def deleted(self, old: JsonObject) -> None:
        """An object is gone; `old` is the last that was seen of it."""
        ...


@dataclass(frozen=True, slots=True)
class Collection:
    """What to reflect: the path of a collection, narrowed by selectors."""

    path: str
    field_selector: str = ""
    label_selector: str = ""

    def query(self) -> dict[str, str]:
        """The selectors as parameters."""
        both = {"fieldSelector": self.field_selector, "labelSelector": self.label_selector}
        return {name: value for name, value in both.items() if value}


def _without_managed_fields(obj: JsonObject) -> JsonObject:
    obj["metadata"].pop("managedFields", None)
    return obj


class Reflector:
    """Keeps one collection; see the module.

    `keep` reduces an object to what is kept of it and told; by default only `managedFields` goes, half of most objects.
    """

    def __init__(
        self,
        transport: Transport,
        collection: Collection,
        handler: Handler,
        *,
        keep: Callable[[JsonObject], JsonObject] = _without_managed_fields,
        watch_s: float = 240.0,
        clock: Clock = SYSTEM_CLOCK,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """`watch_s` is how long a watch lasts at least before it is opened anew; at most twice as long."""
        self._transport = transport
        self._collection = collection
        self._handler = handler
        self._keep = keep
        self._watch_s = watch_s
        self._clock = clock
        self._rand = rand
        self._backoff = Backoff(_BASE_S, _CAP_S, rand)
        self._objects: dict[_Key, JsonObject] = {}
        self._lock = threading.Lock()
        self._version: str | None = None  # None: list first
        self._group: Group | None = None
        self._synced: Event | None = None

    def start(self, group: Group, *, name: str) -> Event:
        """Reflect in a thread of `group`; returns the event of the first complete list having been told."""
        self._group = group
        self._synced = group.event()
        group.spawn(name, lambda: self._run(group))
        return self._synced

    def get(self, name: str, *, namespace: str = "") -> JsonObject | None:
        """One object as last seen; not to be changed."""
        with self._lock:
            return self._objects.get((namespace, name))

    def objects(self) -> list[JsonObject]:
        """All objects as last seen; not to be changed."""
        with self._lock:
            return list(self._objects.values())

    def _run(self, group: Group) -> None:
        while not group.stopping:
            watching_since = float("inf")
            error: KubeError | None = None
            try:
                if self._version is None:
                    self._list()
                watching_since = self._clock.monotonic()
                self._watch(group)
            except Gone as gone:
                self._version = None
                error = gone
            except KubeError as caught:
                error = caught
            watched_s = self._clock.monotonic() - watching_since
            if watched_s >= _HEALTHY_S:
                self._backoff.reset()
            if not group.stopping and (error is not None or watched_s < _SHORT_S):
                self._pause(group, error)

    def _pause(self, group: Group, error: KubeError | None) -> None:
        asked_s = error.retry_after_s if isinstance(error, ApiUnavailable) else None
        delay_s = self._backoff.next_s(at_least_s=asked_s or 0.0)
        if error is not None and not isinstance(error, Gone):  # which is everyday life
            fields = {"path": self._collection.path, "reason": error.reason, "retryInSeconds": round(delay_s, 2)}
            _log.warning("cannot follow %s: %s", self._collection.path, error, extra=fields)
        group.wait(delay_s)

    def _list(self) -> None:
        found: dict[_Key, JsonObject] = {}
        query = {**self._collection.query(), "limit": str(_PAGE)}
        while True:
            response = self._transport.request("GET", self._collection.path, query=query, timeout_s=_LIST_TIMEOUT_S)
            for item in response.body.get("items") or []:
                found[_key(item)] = self._keep(item)
            meta = response.body["metadata"]
            if not meta.get("continue"):
                break
            query["continue"] = meta["continue"]
        for key in [key for key in self._objects if key not in found]:
            self._forget(key)
        for key, obj in found.items():
            self._take(key, obj)
        self._version = meta["resourceVersion"]
        if self._synced is not None:
            self._synced.set()

    def _watch(self, group: Group) -> None:
        seconds = int(self._watch_s * (1.0 + self._rand()))
        query = {
            **self._collection.query(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version or "",
            "timeoutSeconds": str(seconds),
        }
        with self._transport.stream(self._collection.path, query=query, timeout_s=seconds + _GRACE_S) as lines:
            withdraw = group.on_stop(lines.close)
            try:
                for line in lines:
                    self._event(line)
            finally:
                withdraw()

    def _event(self, line: bytes) -> None:
        try:
            event = strictjson.loads(line)
            kind, obj = event["type"], event["object"]
        except (ValueError, KeyError, TypeError) as error:
            self._version = None
            raise ApiUnavailable(f"watch {self._collection.path}: not an event: {line[:200]!r}") from error
        if kind == "ERROR":
            raise kube_error(f"watch {self._collection.path}", code=obj.get("code", 500), status=obj)
        if kind != "BOOKMARK":
            key = _key(obj)
            if kind == "DELETED":
                self._forget(key)
            else:
                self._take(key, self._keep(obj))
        self._version = obj["metadata"]["resourceVersion"]

    def _take(self, key: _Key, obj: JsonObject) -> None:
        old = self._objects.get(key)
        if old is not None and old["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._forget(key)  # deleted and made again while nobody looked
            old = None
        if old is not None and old["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return
        with self._lock:
            self._objects[key] = obj
        if old is None:
            self._handler.added(obj)
        else:
            self._handler.modified(obj, old=old)

    def _forget(self, key: _Key) -> None:
        with self._lock:
            old = self._objects.pop(key, None)
        if old is not None:
            self._handler.deleted(old)


def _key(obj: Mapping[str, JsonObject]) -> _Key:
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]
