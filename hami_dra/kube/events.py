"""Events on objects, for whoever runs `kubectl describe`.

Emitting never blocks and never fails: Events are a courtesy.  The same thing said again counts up one Event instead of
making another, and each object has a budget, so that a claim that fails a thousand times costs a handful of requests
(the rules of client-go: 25 at once, then one in five minutes).  What is said of one version of an object (`resourceVersion`)
is one Event for all who say it: thousands of nodes may find the same fault.  Reasons and words are left to the caller.
Invariant: at most `_QUEUE` Events wait; what does not fit is dropped and counted.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeVar
from urllib.parse import quote

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock, rfc3339
from hami_dra._lib.workqueue import WorkQueue
from hami_dra.core.errors import ApiUnavailable, Conflict, KubeError, NotFound
from hami_dra.kube.transport import MERGE_PATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from hami_dra._lib.threads import Group
    from hami_dra.api.k8s import JsonObject, ObjectReference
    from hami_dra.kube.transport import Transport

__all__ = ["EventRecorder"]

_log = logging.getLogger(__name__)

_QUEUE = 1000
_REMEMBERED = 4096
_BURST = 25.0
_REFILL_S = 300.0
_ATTEMPTS = 8
_MESSAGE_BYTES = 1024  # the API server refuses more
_REPEAT_S = 10.0  # a repeated Event is counted up on the server at most this often

_V = TypeVar("_V")


@dataclass(slots=True)
class _Said:
    """One Event: everything that makes it the same as another, and how often it was said."""

    regarding: ObjectReference
    type: str
    reason: str
    message: str
    first: str
    last: str = ""
    count: int = 0
    name: str = ""  # of the Event on the server, once it is there
    sent_at: float = float("-inf")
    attempts: int = 0


@dataclass(slots=True)
class _Budget:
    tokens: float = _BURST
    since: float = 0.0


@dataclass(slots=True)
class _Recent(Generic[_V]):
    """The entries used last; older ones are forgotten."""

    entries: OrderedDict[str, _V] = field(default_factory=OrderedDict)

    def get(self, key: str, make: Callable[[], _V]) -> _V:
        value = self.entries.pop(key) if key in self.entries else make()
        self.entries[key] = value
        if len(self.entries) > _REMEMBERED:
            self.entries.popitem(last=False)
        return value


class EventRecorder:
    """Emits Events in the name of one component."""

    def __init__(
        self,
        transport: Transport,
        *,
        component: str,
        host: str = "",
        clock: Clock = SYSTEM_CLOCK,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """`component` and `host` show as the Event's source; `host` is the node's name where there is one."""
        self._transport = transport
        self._source = {"component": component, **({"host": host} if host else {})}
        self._clock = clock
        self._queue: WorkQueue[str] = WorkQueue(base_s=0.5, cap_s=30.0, clock=clock, rand=rand)
        self._lock = threading.Lock()
        self._said: _Recent[_Said] = _Recent()
        self._budgets: _Recent[_Budget] = _Recent()
        self.dropped = 0
        """How many Events were not sent, for want of budget, room or a willing API server."""

    def start(self, group: Group) -> None:
        """Send in a thread of `group`; what is emitted before waits for that."""
        self._queue.run(group, self._send, name="events", retry_on=KubeError, on_error=self._failed)

    def emit(
        self,
        regarding: ObjectReference,
        *,
        event_type: Literal["Normal", "Warning"],
        reason: str,
        message: str,
    ) -> None:
        """Say something about an object; `reason` is one CamelCase word, `message` a sentence with what to do."""
        message = message.encode()[:_MESSAGE_BYTES].decode(errors="ignore")
        about = f"{regarding.get('kind')}/{regarding.get('namespace')}/{regarding.get('name')}/{regarding.get('uid')}"
        version = regarding.get("resourceVersion", "")
        key = hashlib.sha256(f"{about}\0{version}\0{event_type}\0{reason}\0{message}".encode()).hexdigest()
        now = rfc3339(self._clock.now())
        with self._lock:
            if len(self._queue) >= _QUEUE or not self._pay(about):
                self.dropped += 1
                return
            said = self._said.get(key, lambda: _Said(regarding, event_type, reason, message, first=now))
            said.count += 1
            said.last = now
            wait_s = said.sent_at + _REPEAT_S - self._clock.monotonic()
        if wait_s > 0:
            self._queue.add_after(key, wait_s)
        else:
            self._queue.add(key)

    def _pay(self, about: str) -> bool:
        now = self._clock.monotonic()
        budget = self._budgets.get(about, lambda: _Budget(since=now))
        budget.tokens = min(_BURST, budget.tokens + (now - budget.since) / _REFILL_S)
        budget.since = now
        if budget.tokens < 1.0:
            return False
        budget.tokens -= 1.0
        return True

    def _send(self, key: str) -> None:
        with self._lock:
            said = self._said.entries.get(key)
            if said is None:
                return
            repeat = {"count": said.count, "lastTimestamp": said.last}
            said.sent_at = self._clock.monotonic()
        namespace = said.regarding.get("namespace") or "default"
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/events"
        if said.name:
            try:
                self._transport.request("PATCH", f"{path}/{said.name}", body=repeat, content_type=MERGE_PATCH)
            except NotFound:  # the API server keeps Events for an hour
                said.name = ""
            else:
                return
        shared = "resourceVersion" in said.regarding
        unique = key[:20] if shared else f"{key[:10]}{int(self._clock.now().timestamp() * 1000):x}"
        name = f"{said.regarding.get('name', 'unknown')[:200]}.{unique}"
        event: JsonObject = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": said.regarding,
            "type": said.type,
            "reason": said.reason,
            "message": said.message,
            "firstTimestamp": said.first,
            "source": self._source,
            "reportingComponent": self._source["component"],
            "reportingInstance": self._source.get("host", ""),
            **repeat,
        }
        try:
            self._transport.request("POST", path, body=event)
        except Conflict:
            if not shared:
                raise
            return  # somebody else has said it
        said.name = name
        said.attempts = 0

    def _failed(self, key: str, error: Exception) -> float | None:
        """Whether to try again: only if nobody answered, and not for ever."""
        said = self._said.entries.get(key)
        if said is not None and isinstance(error, ApiUnavailable):
            said.attempts += 1
            if said.attempts < _ATTEMPTS:
                return error.retry_after_s or 0.0
        self.dropped += 1
        _log.warning("an Event is dropped: %s", error, extra={"reason": said.reason if said else ""})
        return None
