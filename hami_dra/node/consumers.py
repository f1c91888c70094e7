"""Which pods use a claim, as far as this node was told.

A claim names its consumers in `status.reservedFor`; they are noted when it is prepared, and for claims that an earlier process
has prepared, or that got another consumer since, the claim is read again: one at a time, and not again for a while.  Kubelet
names pods in cgroups by their UID, so this is also how a process is attributed to a claim by something that it cannot change.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.errors import HamiDraError, KubeError
from hami_dra.core.ids import ClaimUid
from hami_dra.core.plan import ClaimPlan
from hami_dra.node.ports import ClaimReader
from hami_dra.node.state import ClaimRef, Prepared

__all__ = ["Consumer", "Consumers"]

_log = logging.getLogger(__name__)

_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A pod."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class _Known:
    pods: tuple[Consumer, ...]
    read_s: float


class Consumers:
    """Safe to use from several threads; hears of prepared claims as a `ClaimListener`."""

    def __init__(self, claims: ClaimReader, *, clock: Clock = SYSTEM_CLOCK) -> None:
        """Read claims through `claims`."""
        self._claims = claims
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[ClaimUid, _Known] = {}

    def prepared(self, prepared: Prepared) -> None:
        """A claim is prepared, maybe again."""
        if prepared.claim is not None:
            self.note(prepared.claim)

    def failed(self, ref: ClaimRef, error: HamiDraError) -> None:
        """A claim could not be prepared: nobody uses it here."""

    def unprepared(self, ref: ClaimRef) -> None:
        """A claim is not prepared any more."""
        with self._lock:
            self._known.pop(ref.uid, None)

    def note(self, claim: ResourceClaim) -> None:
        """A claim was read, for whatever reason."""
        users = claim.get("status", {}).get("reservedFor", [])
        pods = tuple(Consumer(name=user["name"], uid=user["uid"]) for user in users if user.get("resource") == "pods")
        with self._lock:
            self._known[ClaimUid(claim["metadata"]["uid"])] = _Known(pods, self._clock.monotonic())

    def forget_others(self, uids: Iterable[ClaimUid]) -> None:
        """Keep what is known of these claims only."""
        keep = set(uids)
        with self._lock:
            self._known = {uid: known for uid, known in self._known.items() if uid in keep}

    def pods(self, uid: ClaimUid) -> tuple[Consumer, ...]:
        """The pods that use the claim; none where nobody said so."""
        with self._lock:
            known = self._known.get(uid)
        return () if known is None else known.pods

    def names(self, uid: ClaimUid) -> tuple[str, ...]:
        """Their names."""
        return tuple(pod.name for pod in self.pods(uid))

    def refresh(self, plan: ClaimPlan) -> bool:
        """Read the claim, unless that was done a while ago; says whether it was."""
        now_s = self._clock.monotonic()
        with self._lock:
            known = self._known.get(plan.uid)
            if known is not None and now_s - known.read_s < _AGAIN_S:
                return False
            self._known[plan.uid] = _Known(() if known is None else known.pods, now_s)
        try:
            claim = self._claims.get(namespace=plan.namespace, name=plan.name)
        except KubeError as error:
            _log.debug("consumers of claim %s/%s are not known: %s", plan.namespace, plan.name, error)
            return True
        if claim["metadata"].get("uid") == plan.uid:
            self.note(claim)
        return True
