"""Answers one call of kubelet: every claim of it gets an answer, and claims do not wait for each other.

`node.state` does the work and `node.endpoint` the translation; this is where failures become words, log lines, metrics and
news for whoever listens.  Errors outside the house's tree are bugs: they fail the whole call, and kubelet tries again.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.core.errors import HamiDraError
from hami_dra.core.ids import ClaimUid
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.state import ClaimRef, NodeState, Prepared, PreparedDevice

__all__ = ["ClaimListener", "ClaimListeners", "ClaimService", "Failure"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Failure(str):
    """Why a claim has no other answer, in words for kubelet's Event."""

    __slots__ = ()


class ClaimListener(Protocol):
    """Who hears of prepared claims.  Must not block: kubelet waits."""

    def prepared(self, prepared: Prepared) -> None:
        """A claim is prepared, maybe again."""
        ...

    def failed(self, ref: ClaimRef, error: HamiDraError) -> None:
        """A claim could not be prepared."""
        ...

    def unprepared(self, ref: ClaimRef) -> None:
        """A claim is not prepared any more."""
        ...


class ClaimListeners:
    """Several listeners as one."""

    def __init__(self, *listeners: ClaimListener) -> None:
        """Tell these, in this order."""
        self._listeners = listeners

    def prepared(self, prepared: Prepared) -> None:
        """A claim is prepared, maybe again."""
        for listener in self._listeners:
            listener.prepared(prepared)

    def failed(self, ref: ClaimRef, error: HamiDraError) -> None:
        """A claim could not be prepared."""
        for listener in self._listeners:
            listener.failed(ref, error)

    def unprepared(self, ref: ClaimRef) -> None:
        """A claim is not prepared any more."""
        for listener in self._listeners:
            listener.unprepared(ref)


class ClaimService:
    """Prepare and unprepare several claims at once."""

    def __init__(
        self,
        *,
        state: NodeState,
        listener: ClaimListener,
        metrics: NodeMetrics,
        workers: int = 8,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Work on `state`, with `workers` threads for the calls that name several claims."""
        self._state = state
        self._listener = listener
        self._metrics = metrics
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="claims")

    def close(self) -> None:
        """Wait for what is being worked on and take nothing more."""
        self._pool.shutdown()

    def prepare(self, refs: Sequence[ClaimRef]) -> Mapping[ClaimUid, list[PreparedDevice] | Failure]:
        """The devices of each claim, or why it has none."""
        return self._each(refs, self._prepare)

    def unprepare(self, refs: Sequence[ClaimRef]) -> Mapping[ClaimUid, Failure | None]:
        """For each claim None, or why it could not be unprepared."""
        return self._each(refs, self._unprepare)

    def _each(self, refs: Sequence[ClaimRef], work: Callable[[ClaimRef], T]) -> dict[ClaimUid, T]:
        if len(refs) == 1:  # nearly always: no other thread is needed
            return {refs[0].uid: work(refs[0])}
        return dict(zip((ref.uid for ref in refs), self._pool.map(work, refs), strict=True))

    def _prepare(self, ref: ClaimRef) -> list[PreparedDevice] | Failure:
        started = self._clock.monotonic()
        try:
            prepared = self._state.prepare(ref)
        except HamiDraError as error:
            self._metrics.prepare_failed(error.reason)
            _log.warning("claim not prepared: %s", error, extra=_fields(ref) | {"reason": error.reason})
            self._listener.failed(ref, error)
            return Failure(error.explain())
        seconds = self._clock.monotonic() - started
        self._metrics.observe_step("total", seconds)
        devices = prepared.devices
        fields = _fields(ref) | {"devices": [device.cdi_id for device in devices], "seconds": round(seconds, 4)}
        _log.info("claim prepared", extra=fields)
        self._listener.prepared(prepared)
        return devices

    def _unprepare(self, ref: ClaimRef) -> Failure | None:
        try:
            self._state.unprepare(ref.uid)
        except HamiDraError as error:
            self._metrics.unprepare_failed(error.reason)
            _log.warning("claim not unprepared: %s", error, extra=_fields(ref) | {"reason": error.reason})
            return Failure(error.explain())
        _log.info("claim unprepared", extra=_fields(ref))
        self._listener.unprepared(ref)
        return None


def _fields(ref: ClaimRef) -> dict[str, object]:
    return {"claim": f"{ref.namespace}/{ref.name}", "claim_uid": ref.uid}
