"""A Kubernetes API server in memory, true to the real one where this driver touches it.

A `Transport`, so that whatever talks to the cluster can be tested without one.  The contract tests
(test/contract/test_api_server*.py) run on it and on a real API server, and hold it to that: versions and conflicts,
watches with bookmarks and 410, server-side apply of claim status, fields behind closed gates, validation of slices.
It also does what a real server only does on bad days: see `fail_next`, `outage`, `slow`, `compact`, `silence_watches`.
"""

from __future__ import annotations

import contextlib
import copy
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.kube.transport import JSON, Response
from hami_dra.testing.apiserver.admission import DEFAULT_GATES
from hami_dra.testing.apiserver.faults import Faults
from hami_dra.testing.apiserver.registry import Registry, refuse
from hami_dra.testing.apiserver.resources import RESOURCES, Interest, Target, parse_path, resource_of
from hami_dra.testing.apiserver.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hami_dra.api.k8s import JsonObject
    from hami_dra.kube.transport import Stream

__all__ = ["FakeApiServer", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that arrived, whatever became of it."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)


class FakeApiServer:
    """See the module.

    `gates` overrides those of 1.36; `version` is what /version says.
    """

    def __init__(
        self, *, gates: Mapping[str, bool] | None = None, version: str = "v1.36.3", clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.gates = {**DEFAULT_GATES, **(gates or {})}
        self.requests: list[Request] = []
        """Every request so far, watches included."""
        self._release = version
        self._clock = clock
        self._registry = Registry(gates=self.gates, clock=clock)
        self._store = self._registry.store
        self._faults = Faults()
        self._watches: list[Watch] = []

    # -- what a test does to the cluster -------------------------------------------------------------------------------

    def add(self, obj: JsonObject) -> JsonObject:
        """Put an object there as somebody else's work: with its status, past validation and faults."""
        with self._store.changed:
            return self._store.put(resource_of(obj), self._registry.with_identity(copy.deepcopy(obj)))

    def change(self, obj: JsonObject) -> JsonObject:
        """Replace an object, its status included, as somebody else's work."""
        with self._store.changed:
            return self._store.put(resource_of(obj), obj)

    def remove(self, obj: JsonObject) -> None:
        """Delete an object as somebody else's work."""
        with self._store.changed:
            self._store.remove(resource_of(obj), obj)

    def objects(self, kind: str) -> list[JsonObject]:
        """All objects of a kind, in all namespaces."""
        with self._store.changed:
            resources = [r for r in RESOURCES if r.kind == kind]
            return [obj for r in resources for obj in self._store.select(Interest(Target(r), {}, {}))]

    def fail_next(
        self,
        count: int,
        status: int,
        *,
        method: str = "",
        path_contains: str = "",
        retry_after_s: int | None = None,
        message: str = "a fault of the fake API server",
    ) -> None:
        """Answer the next `count` requests (of that method and path) with `status`, or reset them (`RESET`)."""
        with self._store.changed:
            self._faults.fail_next(
                count,
                status,
                method=method,
                path_contains=path_contains,
                retry_after_s=retry_after_s,
                message=message,
            )

    def slow(self, seconds: float) -> None:
        """Let every request take that long from now on."""
        with self._store.changed:
            self._faults.delay_s = seconds

    def outage(self) -> None:
        """Stop listening and break every watch, until `recover`."""
        with self._store.changed:
            self._faults.out = True
            self.break_watches()

    def recover(self) -> None:
        """Listen again; nothing that was stored is lost."""
        with self._store.changed:
            self._faults.out = False

    def compact(self) -> None:
        """Forget the history: what starts at an older version gets 410; open watches miss nothing."""
        with self._store.changed:
            for watch in self._watches:
                watch.catch_up()
            self._store.compact()

    def break_watches(self) -> None:
        """Reset the connection of every watch."""
        with self._store.changed:
            for watch in self._watches:
                watch.break_off("connection reset by peer")

    def silence_watches(self) -> None:
        """Let every watch say nothing more, as if its peer had lost power."""
        with self._store.changed:
            for watch in self._watches:
                watch.silent = True

    def send_bookmarks(self) -> None:
        """Send each watch that wants them a bookmark."""
        with self._store.changed:
            for watch in self._watches:
                if watch.wants_bookmarks:
                    watch.bookmark()

    @property
    def version(self) -> int:
        """The resource version of the last change."""
        with self._store.changed:
            return self._store.version

    @property
    def open_watches(self) -> int:
        """How many watches are open."""
        with self._store.changed:
            return len(self._watches)

    # -- the Transport -------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
        timeout_s: float = 30.0,  # noqa: ARG002 - of the Protocol; nothing here takes time but `slow`
    ) -> Response:
        """See `Transport.request`."""
        params = dict(query or {})
        with self._store.changed:
            self._arrive(method, path, params)
            if path == "/version":
                return Response(200, self._version_info())
            target = parse_path(unquote(path))
            sent: JsonObject = copy.deepcopy(body) if body is not None else {}
            match method, bool(target.name):
                case "GET", True:
                    answer = self._registry.find(target)
                case "GET", False:
                    answer = self._registry.list(target, params)
                case "POST", False:
                    return Response(201, self._registry.create(target, sent, dry_run=params.get("dryRun") == "All"))
                case "PUT", True:
                    answer = self._registry.update(target, self._registry.find(target), sent)
                case "PATCH", True:
                    answer = self._registry.patch(target, sent, query=params, content_type=content_type)
                case "DELETE", True:
                    answer = self._registry.delete(target, sent)
                case _:
                    refuse(
                        method,
                        target,
                        code=405,
                        reason="MethodNotAllowed",
                        message="the server does not allow this method",
                    )
            return Response(200, answer)

    @contextlib.contextmanager
    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> Iterator[Stream]:
        """See `Transport.stream`."""
        with self._store.changed:
            self._arrive("GET", path, query)
            watch = self._watch(parse_path(unquote(path)), dict(query), silence_s=timeout_s)
            self._watches.append(watch)
        try:
            yield watch
        finally:
            with self._store.changed:
                self._watches.remove(watch)

    def _watch(self, target: Target, query: Mapping[str, str], *, silence_s: float) -> Watch:
        interest = self._registry.interest(target, query)
        since = int(query.get("resourceVersion") or 0)
        ends_after_s = float(query.get("timeoutSeconds", 1800))
        pending: deque[JsonObject] = deque()
        if since == 0:
            since = self._store.version
            pending.extend({"type": "ADDED", "object": obj} for obj in self._store.select(interest))
        elif since < self._store.compacted:
            message = f"too old resource version: {since} ({self._store.compacted})"
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": message}
            pending.append({"type": "ERROR", "object": status})
            ends_after_s = 0.0
        return Watch(
            self._store,
            interest,
            since=since,
            clock=self._clock,
            ends_after_s=ends_after_s,
            silence_s=silence_s,
            wants_bookmarks=query.get("allowWatchBookmarks") == "true",
            pending=pending,
        )

    def _arrive(self, method: str, path: str, query: Mapping[str, str]) -> None:
        self.requests.append(Request(method, path, dict(query)))
        self._faults.meet(method, path, condition=self._store.changed, clock=self._clock)

    def _version_info(self) -> JsonObject:
        major, minor, _ = self._release.removeprefix("v").split(".", 2)
        return {"major": major, "minor": minor, "gitVersion": self._release}
