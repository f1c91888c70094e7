"""The watches of the fake API server: what a client sees of the history, line by line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

from hami_dra.core.errors import ApiUnavailable

if TYPE_CHECKING:
    from collections import deque

    from hami_dra._lib.clock import Clock
    from hami_dra.api.k8s import JsonObject
    from hami_dra.testing.apiserver.resources import Interest
    from hami_dra.testing.apiserver.store import Change, Store

__all__ = ["Watch"]


class Watch:
    """One open watch; a `Stream`."""

    def __init__(
        self,
        store: Store,
        interest: Interest,
        *,
        since: int,
        clock: Clock,
        ends_after_s: float,
        silence_s: float,
        wants_bookmarks: bool,
        pending: deque[JsonObject],
    ) -> None:
        """Begin after version `since`, with the events in `pending` first."""
        self._store = store
        self._interest = interest
        self._name = f"watch of {interest.target.resource.plural}"
        self._since = since
        self._clock = clock
        self._end = clock.monotonic() + ends_after_s
        self._silence_s = silence_s
        self._pending = pending
        self.wants_bookmarks = wants_bookmarks
        self._closed = False
        self._broken = ""
        self.silent = False
        """Nothing comes any more, not even the end: the peer is gone without a word."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """The next event, once there is one."""
        silent_until = self._clock.monotonic() + self._silence_s
        with self._store.changed:
            while True:
                if self._closed:
                    raise StopIteration
                if self._broken and not self._pending:
                    raise ApiUnavailable(f"{self._name}: {self._broken}")
                if not self.silent:
                    if self._pending:
                        return json.dumps(self._pending.popleft()).encode()
                    self.catch_up()
                    if self._pending:
                        continue
                    if self._clock.monotonic() >= self._end:
                        if not self.wants_bookmarks:
                            raise StopIteration
                        self.wants_bookmarks = False  # the last one, as from a real server
                        self.bookmark()
                        continue
                if self._clock.monotonic() >= silent_until:
                    raise ApiUnavailable(f"{self._name}: silent for {self._silence_s} s")
                wake = silent_until if self.silent else min(self._end, silent_until)
                self._clock.wait(self._store.changed, wake - self._clock.monotonic())

    def close(self) -> None:
        """End it from the client's side."""
        with self._store.changed:
            self._closed = True
            self._store.changed.notify_all()

    def break_off(self, why: str) -> None:
        """Break the connection, once what was sent before has arrived; called with the store's condition held."""
        self._broken = why
        self._store.changed.notify_all()

    def bookmark(self) -> None:
        """Tell the client how far it is; called with the store's condition held."""
        self.catch_up()
        resource = self._interest.target.resource
        version = {"metadata": {"resourceVersion": str(self._store.version), "creationTimestamp": None}}
        obj = {"kind": resource.kind, "apiVersion": resource.api_version} | version
        self._pending.append({"type": "BOOKMARK", "object": obj})
        self._store.changed.notify_all()

    def catch_up(self) -> None:
        """Take what has changed from the history, which may be forgotten next; called with the store's condition held."""
        for change in self._store.history:
            if change.version > self._since:
                self._since = change.version
                self._pending.extend(self._events(change))

    def _events(self, change: Change) -> list[JsonObject]:
        if change.resource != self._interest.target.resource:
            return []
        is_in = self._interest.selects(change.object)
        was_in = change.before is not None and self._interest.selects(change.before)
        if change.type == "DELETED":
            kind = "DELETED" if was_in else ""
        elif is_in:
            kind = "MODIFIED" if was_in else "ADDED"
        else:
            kind = "DELETED" if was_in else ""
        return [{"type": kind, "object": change.object}] if kind else []
