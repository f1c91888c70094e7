"""Tells users how their claims are on this node: the `Ready` condition of each share, and Events when something failed.

Kubelet never waits for it: what happens is noted, and a thread writes it by server-side apply when the API server likes.
Only the newest news of a claim counts, and when too many claims wait, the news of further ones are dropped (and counted):
kubelet's answer and the log have them anyway.
"""

import logging
import threading
from dataclasses import dataclass
from typing import Literal

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra._lib.workqueue import WorkQueue
from hami_dra.api.k8s import AllocatedDeviceStatus, Condition, ResourceClaim
from hami_dra.api.names import CONDITION_READY, DRIVER, NODE_FIELD_MANAGER
from hami_dra.core.allocation import Allocation, read_allocation
from hami_dra.core.audience import audience
from hami_dra.core.errors import ApiUnavailable, ClaimError, HamiDraError, KubeError, NotFound
from hami_dra.core.ids import ClaimUid
from hami_dra.node.ports import ClaimReader, DeviceStatusWriter, EventSink
from hami_dra.node.state import ClaimRef, Prepared

__all__ = ["StatusWriter"]

_log = logging.getLogger(__name__)

_PREPARED = "Prepared"
_MAX_MESSAGE = 4096
_MOST_DELAYS = 10
"""A node on which pods never stop to start says so all the same."""
_SILENT = ("KubernetesApi",)
"""Reasons that no Event can carry: the API server is the one that does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _News:
    ref: ClaimRef
    claim: ResourceClaim | None
    error: HamiDraError | None
    at_s: float
    """When it was heard."""


class StatusWriter:
    """Listens to the claim service and writes to the API server."""

    def __init__(
        self,
        *,
        claims: ClaimReader,
        writer: DeviceStatusWriter,
        events: EventSink,
        limit: int = 1000,
        delay_s: float = 1.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Nothing is written before `start`.

        Args:
            claims: reads claims that could not be prepared.
            writer: writes conditions.
            events: takes Events.
            limit: how many claims can wait.
            delay_s: good news wait until kubelet has been quiet for so long, at most ten times as long: what is said about a
                burst of pods would only keep the API server, and this process, from preparing the rest of it.
            clock: measures that.
        """
        self._claims = claims
        self._writer = writer
        self._events = events
        self._limit = limit
        self._delay_s = delay_s
        self._clock = clock
        self._heard_s = clock.monotonic()
        """When a claim was last prepared."""
        self._news: dict[ClaimUid, _News] = {}
        self._lock = threading.Lock()
        self._queue: WorkQueue[ClaimUid] = WorkQueue(base_s=0.2, cap_s=60.0, clock=clock)
        self.dropped = 0
        """How many claims' news were dropped for want of room."""

    def start(self, group: Group) -> None:
        """Write in a thread of `group`."""
        self._queue.run(group, self._write, name="status", retry_on=KubeError, on_error=self._failed)

    def prepared(self, prepared: Prepared) -> None:
        """A claim is prepared, maybe again."""
        self._heard_s = self._clock.monotonic()
        claim = prepared.claim
        if claim is not None and not _says_ready(claim):
            ref = ClaimRef(namespace=prepared.plan.namespace, name=prepared.plan.name, uid=prepared.plan.uid)
            self._note(_News(ref=ref, claim=claim, error=None, at_s=self._heard_s))

    def failed(self, ref: ClaimRef, error: HamiDraError) -> None:
        """A claim could not be prepared."""
        if error.reason not in _SILENT:
            self._note(_News(ref=ref, claim=None, error=error, at_s=self._clock.monotonic()))

    def unprepared(self, ref: ClaimRef) -> None:
        """A claim is not prepared any more: what was not yet said of it need not be."""
        with self._lock:
            self._news.pop(ref.uid, None)

    def _note(self, news: _News) -> None:
        with self._lock:
            if news.ref.uid not in self._news and len(self._news) >= self._limit:
                self.dropped += 1
                return
            self._news[news.ref.uid] = news
        self._queue.add_after(news.ref.uid, 0.0 if news.error else self._delay_s)

    def _write(self, uid: ClaimUid) -> None:
        with self._lock:
            news = self._news.get(uid)
        if news is None:
            return
        if (wait_s := self._hush_s(news)) > 0:
            self._queue.add_after(uid, wait_s)
            return
        claim = news.claim or self._read(news.ref)
        if claim is not None:
            if news.error is not None:
                self._emit(claim, news.error)
            self._apply(claim, news.error)
        self._settle(uid, news)

    def _hush_s(self, news: _News) -> float:
        """How long the news should still wait."""
        if news.error is not None:
            return 0.0
        quiet_s = self._heard_s + self._delay_s
        return min(quiet_s, news.at_s + _MOST_DELAYS * self._delay_s) - self._clock.monotonic()

    def _read(self, ref: ClaimRef) -> ResourceClaim | None:
        try:
            claim = self._claims.get(namespace=ref.namespace, name=ref.name)
        except NotFound:
            return None
        return claim if claim["metadata"].get("uid") == ref.uid else None

    def _apply(self, claim: ResourceClaim, error: HamiDraError | None) -> None:
        try:
            allocation = read_allocation(claim)
        except ClaimError:  # not allocated: there is no entry to write to
            return
        condition = _condition(error)
        self._writer.apply_devices(claim, _entries(allocation, condition), field_manager=NODE_FIELD_MANAGER)

    def _emit(self, claim: ResourceClaim, error: HamiDraError) -> None:
        """On the claim and on every pod that waits for it: `kubectl describe pod` is where people look first."""
        for reference in audience(claim):
            self._events.emit(reference, event_type="Warning", reason=error.reason, message=str(error))

    def _settle(self, uid: ClaimUid, news: _News) -> None:
        with self._lock:
            if self._news.get(uid) is news:
                del self._news[uid]

    def _failed(self, uid: ClaimUid, error: Exception) -> float | None:
        """Whether to write again: only where nobody answered."""
        if isinstance(error, ApiUnavailable):
            return error.retry_after_s or 0.0
        with self._lock:
            self._news.pop(uid, None)
        _log.warning("the status of a claim could not be written: %s", error, extra={"claim_uid": uid})
        return None


def _condition(error: HamiDraError | None) -> Condition:
    status: Literal["True", "False"] = "True" if error is None else "False"
    return {
        "type": CONDITION_READY,
        "status": status,
        "reason": _PREPARED if error is None else error.reason,
        "message": "" if error is None else str(error)[:_MAX_MESSAGE],
    }


def _entries(allocation: Allocation, condition: Condition) -> list[AllocatedDeviceStatus]:
    entries: list[AllocatedDeviceStatus] = []
    for result in allocation.results:
        entry: AllocatedDeviceStatus = {
            "driver": DRIVER,
            "pool": result.pool,
            "device": result.device,
            "conditions": [condition],
        }
        if result.share_id is not None:
            entry["shareID"] = result.share_id
        entries.append(entry)
    return entries


def _says_ready(claim: ResourceClaim) -> bool:
    """Whether all of our devices are said to be ready already."""
    status = claim.get("status", {})
    ours = [
        result
        for result in status.get("allocation", {}).get("devices", {}).get("results", [])
        if result["driver"] == DRIVER
    ]
    ready = [
        entry
        for entry in status.get("devices", [])
        if entry["driver"] == DRIVER
        and any(c["type"] == CONDITION_READY and c["status"] == "True" for c in entry.get("conditions") or [])
    ]
    return len(ready) >= len(ours)
