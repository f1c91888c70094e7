"""One leader among several processes, by a Lease.

The rules are client-go's: whoever renews the record is the leader; others judge by when *they* saw the record change,
never by the times written in it, so that clocks which disagree do no harm.  A leader that cannot renew in time steps down
before anybody else can take over.  (The official Python client has an election too, but it dies of connection errors, never
gives the lease back, and needs the typed models.)
Invariant: `lead` is running only while nobody else can hold the lease.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock, micro_time
from hami_dra.core.errors import Conflict, KubeError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from hami_dra._lib.threads import Group
    from hami_dra.api.k8s import JsonObject
    from hami_dra.kube.transport import Transport

__all__ = ["Elector", "LeaseTimes"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """How long a lease lasts, by when a leader must have renewed it, and how often one tries.  Defaults are client-go's."""

    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        """Refuse times that allow two leaders."""
        if not self.lease_s > self.renew_deadline_s > self.retry_s > 0:
            raise ValueError(f"need lease > renew deadline > retry > 0, got {self}")


class Elector:
    """One candidate.

    `identity` must differ between processes, restarts included: the pod's name and UID, say.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        namespace: str,
        name: str,
        identity: str,
        times: LeaseTimes | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{quote(namespace, safe='')}/leases"
        self._name = name
        self._identity = identity
        self._times = times or LeaseTimes()
        self._clock = clock
        self._rand = rand
        self._lease: JsonObject | None = None  # as last seen
        self._changed_at = 0.0  # when we saw it change
        self._renewed_at = float("-inf")

    @property
    def leading(self) -> bool:
        """Whether we hold the lease and nobody else can have taken it."""
        return self._clock.monotonic() < self._renewed_at + self._times.renew_deadline_s

    def start(self, group: Group, *, on_started: Callable[[], None], on_stopped: Callable[[], None]) -> None:
        """Be a candidate in a thread of `group`.

        Args:
            group: whose stop gives the lease back.
            on_started: called once we lead; starts threads of its own and returns.
            on_stopped: called once we lead no more, before anybody else can; ends what `on_started` began, and returns.
                Whoever cannot begin again raises here unless the group is stopping: that stops the group.
        """
        group.spawn("elector", lambda: self._run(group, on_started, on_stopped))

    def _run(self, group: Group, on_started: Callable[[], None], on_stopped: Callable[[], None]) -> None:
        while not group.stopping:
            if not self._try(timeout_s=self._times.renew_deadline_s):
                group.wait(self._times.retry_s * (1.0 + self._rand()))
                continue
            _log.info("leading", extra={"lease": self._name, "identity": self._identity})
            try:
                on_started()
                self._keep(group)
            finally:
                still_ours = self.leading and self._ours()
                self._renewed_at = float("-inf")
                _log.info("leading no more", extra={"lease": self._name, "lost": not still_ours})
                on_stopped()
                if still_ours:
                    self._release()

    def _keep(self, group: Group) -> None:
        """Renew until the group stops or the lease is lost."""
        while not group.wait(self._times.retry_s):
            left_s = self._renewed_at + self._times.renew_deadline_s - self._clock.monotonic()
            if left_s <= 0 or (not self._try(timeout_s=left_s) and self._lost()):
                return

    def _lost(self) -> bool:
        return self._lease is not None and not self._ours()

    def _ours(self) -> bool:
        return self._lease is not None and self._lease["spec"].get("holderIdentity") == self._identity

    def _try(self, *, timeout_s: float) -> bool:
        """Take or renew the lease once; say whether we have it now."""
        asked_at = self._clock.monotonic()
        try:
            if not (self._ours() and self.leading):
                self._look(timeout_s)
            if self._lease is not None and not self._ours() and self._valid():
                return False
            self._write(timeout_s)
        except (Conflict, NotFound):
            self._lease = (
                None  # somebody wrote first, or a write of ours was done though its answer was lost: look again
            )
            return False
        except KubeError as error:
            _log.warning("lease %s: %s", self._name, error, extra={"lease": self._name})
            return False
        self._renewed_at = asked_at  # what we asked cannot have been done earlier
        return True

    def _look(self, timeout_s: float) -> None:
        try:
            seen = self._transport.request("GET", f"{self._collection}/{self._name}", timeout_s=timeout_s).body
        except NotFound:
            self._lease = None
            return
        known = self._lease
        if known is None or known["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]:
            self._lease, self._changed_at = seen, self._clock.monotonic()
        if self._lost():
            self._renewed_at = float("-inf")

    def _valid(self) -> bool:
        spec = self._lease["spec"] if self._lease else {}
        lasts_s = float(spec.get("leaseDurationSeconds") or 0)
        return bool(spec.get("holderIdentity")) and self._clock.monotonic() < self._changed_at + lasts_s

    def _write(self, timeout_s: float) -> None:
        now = micro_time(self._clock.now())
        old = self._lease["spec"] if self._lease else {}
        spec: JsonObject = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._times.lease_s),
            "acquireTime": old.get("acquireTime", now) if self._ours() else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if self._ours() or not old else 1),
        }
        self._send(spec, timeout_s)

    def _release(self) -> None:
        """Let the next one have it at once, instead of in `lease_s`."""
        now = micro_time(self._clock.now())
        transitions = self._lease["spec"].get("leaseTransitions", 0) if self._lease else 0
        spec: JsonObject = {
            "holderIdentity": "",
            "leaseDurationSeconds": 1,
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        try:
            self._send(spec, self._times.retry_s)
        except KubeError as error:
            _log.warning("lease %s is not given back: %s", self._name, error, extra={"lease": self._name})

    def _send(self, spec: JsonObject, timeout_s: float) -> None:
        meta: JsonObject = {"name": self._name}
        if self._lease:
            meta = self._lease["metadata"]
        lease: JsonObject = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}
        method, path = ("PUT", f"{self._collection}/{self._name}") if self._lease else ("POST", self._collection)
        self._lease = self._transport.request(method, path, body=lease, timeout_s=timeout_s).body
        self._changed_at = self._clock.monotonic()
