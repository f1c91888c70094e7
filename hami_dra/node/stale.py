"""Releases what kubelet forgot: claims that are prepared here and that nobody can use any more.

Kubelet unprepares what it prepared, unless its memory was lost, or its pods went while it was down.  Now and then each prepared
claim is looked up; one that is gone, has another UID, or is allocated to nobody on this node is released once the API server
has said so twice, a grace period apart, and no process of this node has its files.  Only the API server's word counts: one that
does not answer, refuses, or does not serve claims at all releases nothing, however long.  Time is the kernel's monotonic clock,
so that a wall clock that jumps releases nothing either.
"""

import logging
import random
from collections.abc import Callable

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.errors import ClaimError, HamiDraError, NotFound
from hami_dra.core.ids import ClaimUid, PoolName
from hami_dra.core.plan import ClaimPlan
from hami_dra.node.ports import ClaimReader, NodeFiles
from hami_dra.node.state import NodeState

__all__ = ["GRACE_S", "StaleClaims"]

_log = logging.getLogger(__name__)

GRACE_S = 600.0


class StaleClaims:
    """Looks for prepared claims that nobody can use."""

    def __init__(
        self,
        *,
        claims: ClaimReader,
        state: NodeState,
        files: NodeFiles,
        pool: PoolName,
        released: Callable[[], None],
        grace_s: float = GRACE_S,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Work on the files that `state` works on.

        Args:
            claims: the API server's word.
            state: undoes what a claim has here.
            files: the ledger, the locks, and who uses them.
            pool: of this node.
            released: told of each claim that was released.
            grace_s: how long the API server must have said so; about as often it is asked.
            clock: measures the grace period.
        """
        self._claims = claims
        self._state = state
        self._ledger = files.ledger
        self._locks = files.locks
        self._pool = pool
        self._in_use = files.in_use
        self._released = released
        self._grace_s = grace_s
        self._clock = clock
        self._since: dict[ClaimUid, float] = {}
        """When the API server first said that nobody can use a claim; forgotten when it says otherwise."""

    def run(self, group: Group, *, rand: Callable[[], float] = random.random) -> None:
        """Look until the group stops; nodes that started together do not ask together."""
        while not group.wait(self._grace_s * (0.5 + rand())):
            try:
                self.look()
            except HamiDraError as error:
                _log.warning("prepared claims could not be looked up: %s", error)

    def look(self) -> None:
        """Ask once for every prepared claim, and release those whose time has come.

        Raises:
            HamiDraError: nobody answers, or the files cannot be worked on; the next look goes on.
        """
        plans = {entry.plan.uid: entry.plan for entry in self._ledger.entries() if self._state.is_prepared(entry)}
        self._since = {uid: since for uid, since in self._since.items() if uid in plans}
        for uid, plan in plans.items():
            reason = self._why_stale(plan)
            if reason is None:
                self._since.pop(uid, None)
            elif self._clock.monotonic() - self._since.setdefault(uid, self._clock.monotonic()) >= self._grace_s:
                self._release(plan)

    def _why_stale(self, plan: ClaimPlan) -> str | None:
        """Why nobody can use the claim here; None while somebody may.

        Raises:
            KubeError: nobody can tell.
        """
        try:
            claim = self._claims.get(namespace=plan.namespace, name=plan.name)
        except NotFound as error:
            if not error.of_object:
                raise
            return "it was deleted"
        if (uid := claim["metadata"].get("uid")) != plan.uid:
            return f"it was replaced by one with UID {uid}"
        return self._why_not_ours(claim)

    def _why_not_ours(self, claim: ResourceClaim) -> str | None:
        if not claim.get("status", {}).get("reservedFor"):
            return "it is reserved for nobody"
        try:
            pools = {result.pool for result in read_allocation(claim).results}
        except ClaimError:
            return "it is not allocated"
        return None if self._pool in pools else f"it is allocated from {', '.join(sorted(pools))}"

    def _release(self, plan: ClaimPlan) -> None:
        if plan.uid in self._in_use():
            _log.warning(
                "a claim is prepared that nobody can use, but processes have its files: is kubelet down?",
                extra={"claim": f"{plan.namespace}/{plan.name}", "claim_uid": plan.uid},
            )
            return
        with self._locks.try_hold(plan.uid) as mine:
            entry = self._ledger.get(plan.uid) if mine else None
            if entry is None or entry.plan != plan or not self._state.is_prepared(entry):
                return
            if (reason := self._why_stale(plan)) is None:  # kubelet may have worked on it since
                return
            self._state.undo(plan.uid)
        del self._since[plan.uid]
        self._released()
        _log.warning(
            "released a claim that kubelet forgot: %s",
            reason,
            extra={"claim": f"{plan.namespace}/{plan.name}", "claim_uid": plan.uid},
        )
