"""Brings the status of each claim into line with what its configuration means.

`core.resolution` decides what to say; this module decides when: on every change of a claim that is allocated to our driver, once,
and again after a back-off while the API server does not take it.  The effects are Protocols, wired in `app.controller`.
Invariant: a claim whose status already says what it should is not written again, so the controller never wakes itself.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from hami_dra.api.names import CONTROLLER_FIELD_MANAGER
from hami_dra.core.errors import ApiUnavailable, ClaimChanged, Invalid, KubeError, NotFound
from hami_dra.core.resolution import is_published, judge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hami_dra._lib.threads import Group
    from hami_dra._lib.workqueue import WorkQueue
    from hami_dra.api.k8s import AllocatedDeviceStatus, ResourceClaim
    from hami_dra.core.errors import HamiDraError

__all__ = ["ClaimEvents", "ClaimKey", "ClaimResolver", "ClaimStatusWriter", "ControllerMetrics"]

ClaimKey = tuple[str, str]
"""Namespace and name."""

_log = logging.getLogger(__name__)


class ClaimStatusWriter(Protocol):
    """Where verdicts go; `kube.claims.Claims`."""

    def apply_devices(
        self, claim: ResourceClaim, devices: Iterable[AllocatedDeviceStatus], *, field_manager: str
    ) -> ResourceClaim:
        """Server-side apply of the entries of `status.devices`."""
        ...


class ClaimEvents(Protocol):
    """Where problems are told, on the claim and on the pods that wait for it."""

    def warn(self, claim: ResourceClaim, problem: HamiDraError) -> None:
        """Tell users what is wrong, without ever failing."""
        ...


class ControllerMetrics:
    """What the controller counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.verdicts = Counter(
            "hami_dra_controller_verdicts", "Verdicts published, by outcome.", ["outcome"], registry=registry
        )
        self.retries = Counter(
            "hami_dra_controller_retries", "Claims put back after an error of the API server.", registry=registry
        )
        self.waiting = Gauge("hami_dra_controller_queue", "Claims waiting or worked on.", registry=registry)


class ClaimResolver:
    """Takes changed claims and publishes verdicts."""

    def __init__(
        self,
        *,
        writer: ClaimStatusWriter,
        events: ClaimEvents,
        queue: WorkQueue[ClaimKey],
        metrics: ControllerMetrics,
    ) -> None:
        self._writer = writer
        self._events = events
        self._queue = queue
        self._metrics = metrics
        self._latest: dict[ClaimKey, ResourceClaim] = {}
        self._mutex = threading.Lock()
        metrics.waiting.set_function(lambda: len(queue))

    def changed(self, claim: ResourceClaim) -> None:
        """A claim was added or modified."""
        key = _key(claim)
        with self._mutex:
            self._latest[key] = claim
        self._queue.add(key)

    def deleted(self, claim: ResourceClaim) -> None:
        """A claim is gone: there is nobody left to tell."""
        with self._mutex:
            self._latest.pop(_key(claim), None)

    def run(self, group: Group, *, workers: int) -> None:
        """Work on changed claims in threads of `group`."""
        self._queue.run(
            group, self.reconcile, name="resolver", workers=workers, retry_on=KubeError, on_error=self._put_back
        )

    def reconcile(self, key: ClaimKey) -> None:
        """Publish the verdict on one claim, if it is not published yet.

        Raises:
            KubeError: the API server did not take it; the claim is kept for a retry.
        """
        with self._mutex:
            claim = self._latest.pop(key, None)
        if claim is None:
            return
        try:
            verdict = judge(claim)
        except ClaimChanged as problem:
            _log.warning("claim cannot be judged", extra={"claim": "/".join(key), "problem": str(problem)})
            return
        if verdict is None or is_published(verdict, claim):
            return
        if verdict.problem is not None:
            _log.info("claim refused", extra={"claim": "/".join(key), "problem": verdict.problem.explain()})
            self._events.warn(claim, verdict.problem)  # first: not every status can be written
        try:
            self._writer.apply_devices(claim, verdict.devices, field_manager=CONTROLLER_FIELD_MANAGER)
        except KubeError:
            self._keep(key, claim)
            raise
        self._metrics.verdicts.labels("resolved" if verdict.problem is None else verdict.problem.reason).inc()

    def _keep(self, key: ClaimKey, claim: ResourceClaim) -> None:
        """Remember the claim for the retry, unless a newer one has come meanwhile."""
        with self._mutex:
            self._latest.setdefault(key, claim)

    def _put_back(self, key: ClaimKey, error: Exception) -> float | None:
        """How long to wait at least; None where a retry cannot help.

        The claim is gone or has other devices now, and its next change brings it back; or its opaque parameters are such that
        the API server takes no status for it.
        """
        if isinstance(error, NotFound | Invalid):
            with self._mutex:
                self._latest.pop(key, None)
            _log.info("status not written", extra={"claim": "/".join(key), "problem": str(error)})
            return None
        self._metrics.retries.inc()
        _log.warning("status not written, will retry", extra={"claim": "/".join(key), "problem": str(error)})
        return (error.retry_after_s if isinstance(error, ApiUnavailable) else None) or 0.0


def _key(claim: ResourceClaim) -> ClaimKey:
    return claim["metadata"].get("namespace", ""), claim["metadata"]["name"]
