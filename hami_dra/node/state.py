"""Prepares and unprepares claims: the order of effects, and what a second attempt makes of a first one.

    prepare     lock claim -> ledger? -> claim from the API server -> plan -> ledger Started (capacity checked)
                -> partitions -> modes of its cards -> caps of its pods -> share files -> CDI file -> ledger Completed -> answer
    unprepare   lock claim -> CDI file -> share files -> caps of its pods -> modes of its cards -> partitions -> ledger

Whatever lies between a Started row and its end is undone by the next attempt or the next start (`node.recovery`), so a kill -9
between any two effects leaves nothing that a retry does not heal.  The ledger's row is the first thing of a claim to come and
the last to go: files without a row belong to nobody.  Nothing of the truth is kept in memory, since a second node plugin may
work on the same node during a rolling update.
"""

import contextlib
import functools
import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import Allocation, Result, read_allocation
from hami_dra.core.capacity import check_capacity
from hami_dra.core.cdi import NodePaths, claim_spec
from hami_dra.core.devices import Offers
from hami_dra.core.errors import (
    ApiUnavailable,
    CardNotHealth,
    ClaimChanged,
    DeviceLost,
    DriverError,
    HamiDraError,
    NotFound,
    UnknownDevice,
)
from hami_dra.core.ids import ClaimUid, DeviceName, PoolName, ShareId
from hami_dra.core.inventory import Inventory, card_of
from hami_dra.core.metadata import metadata_files
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.record import Entry, Phase
from hami_dra.core.resolve import resolve
from hami_dra.node.caps import KernelCaps
from hami_dra.node.cutting import Cutting
from hami_dra.node.discovery import Discovery
from hami_dra.node.modes import CardModes
from hami_dra.node.ports import ClaimReader, NodeFiles

__all__ = ["ClaimRef", "NodeState", "Prepared", "PreparedDevice", "PublishedPool"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long a prepare waits for the API server, of the 45 s that kubelet waits for the answer."""
_READS = 8
"""How many claims are read at once."""
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRef:
    """A claim as kubelet names it."""

    namespace: str
    name: str
    uid: ClaimUid


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPool:
    """What this node publishes."""

    name: PoolName
    offers: Callable[[], Offers] = Offers
    """How the cards are offered now."""
    unusable: Callable[[DeviceName, frozenset[str]], str] = lambda _device, _tolerated: ""
    """Why no program could run on a device, by faults that are not tolerated; empty where one could."""
    resets: Callable[[DeviceName], int] = lambda _device: 0
    """How often a device's card was seen to have forgotten what it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedDevice:
    """One prepared share as kubelet wants to hear of it."""

    request: str
    """Without a subrequest: what a pod's containers refer to."""
    pool: str
    device: str
    cdi_id: str
    share_id: ShareId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prepared claim."""

    plan: ClaimPlan
    claim: ResourceClaim | None
    """As it was read; None where the API server could not be asked and did not have to be."""

    @property
    def devices(self) -> list[PreparedDevice]:
        """One for each share, in the order of the allocation."""
        return [
            PreparedDevice(
                request=share.spec.base_request,
                pool=share.spec.pool,
                device=share.spec.device,
                cdi_id=self.plan.cdi_id(share),
                share_id=share.spec.share_id,
            )
            for share in self.plan.shares
        ]


class NodeState:
    """What is prepared on this node.  Safe to use from many threads; claims do not wait for each other."""

    def __init__(
        self,
        *,
        claims: ClaimReader,
        discovery: Discovery,
        files: NodeFiles,
        paths: NodePaths,
        pool: PublishedPool,
        wait: Callable[[float], bool] = lambda _seconds: True,
        observe: Callable[[str, float], None] = lambda _step, _seconds: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Work with these adapters.

        Args:
            claims: reads claims.
            discovery: knows the devices of this node.
            files: the ledger, share files, CDI files, caps, partitions and locks.
            paths: where the share files and the guard lie on the host.
            pool: of this node; allocations from another one are refused.
            wait: waits that many seconds before an API server that did not answer is asked again; true means: do not.
            observe: told how many seconds a step of a prepare took.
            clock: measures them.
        """
        self._claims = claims
        self._discovery = discovery
        self._ledger = files.ledger
        self._shares = files.shares
        self._cdi = files.cdi
        self._locks = files.locks
        self._cutting = Cutting(files)
        self.modes = CardModes(files, wait=wait, resets=pool.resets, clock=clock)
        self._boot = files.boot
        self._caps = KernelCaps(ledger=files.ledger, locks=files.locks, boot=files.boot, pods=files.pods)
        self._paths = paths
        self._pool = pool
        self._in_use = files.in_use
        self._late: set[ClaimUid] = set()
        """Unprepared by kubelet, but not here yet.  Forgotten by a restart: then they are found stale."""
        self._wait = wait
        self._reads = threading.BoundedSemaphore(_READS)
        self._observe = observe
        self._clock = clock

    def prepare(self, ref: ClaimRef) -> Prepared:
        """Prepare the claim, or find it prepared.

        Raises:
            HamiDraError: it could not be, and nothing of it is left.
        """
        _check_uid(ref.uid)
        with self._locks.hold(ref.uid):
            self._late.discard(ref.uid)
            entry = self._ledger.get(ref.uid)
            if entry is not None and self.is_prepared(entry):
                return self._repeat(ref, entry.plan)
            if entry is not None:
                self.undo(ref.uid)
            return self._first(ref)

    def unprepare(self, uid: ClaimUid) -> None:
        """Undo whatever was done for the claim; an unknown one is no error.  Needs nobody but this node.

        Not while processes have its files: of pods that share a claim, one that ended before it was prepared makes kubelet
        (1.34 to 1.36) unprepare under the other.  `unprepare_late` does it when they have ended.

        Raises:
            HamiDraError: something of it is left; the next attempt goes on there.
        """
        _check_uid(uid)
        with self._locks.hold(uid):
            if self._ledger.get(uid) is not None and uid in self._in_use():
                _log.warning(
                    "unprepared when its processes have ended: kubelet asked for it early", extra={"claim_uid": uid}
                )
                self._late.add(uid)
            else:
                self.undo(uid)

    def unprepare_late(self) -> None:
        """Undo what was left at an unprepare because processes had it, once they have ended.

        Raises:
            HamiDraError: something is left; the next attempt goes on there.
        """
        for uid in self._late - self._in_use() if self._late else ():
            with self._locks.try_hold(uid) as mine:
                if mine and uid in self._late:  # no prepare came in between
                    self.undo(uid)
                    self._late.discard(uid)

    def undo(self, uid: ClaimUid) -> None:
        """Remove the claim's files, its partitions, then its row.  The caller holds the claim's lock."""
        self._cdi.remove(uid)
        self._shares.remove(uid)
        self._caps.let_go(uid)
        self.modes.leave(uid)
        self._cutting.release(uid)

    def is_prepared(self, entry: Entry) -> bool:
        """Whether the claim of this row is prepared: of this boot, and complete."""
        return entry.phase is Phase.COMPLETED and entry.boot == self._boot

    def ensure_files(self, plan: ClaimPlan, inventory: Inventory) -> None:
        """Make what lacks of a prepared claim's files and partitions.  The caller holds the claim's lock.

        Raises:
            DeviceError: a device of the claim is gone.
            DriverError: a card does not answer.
            NodeStateError: a file could not be written.
        """
        for share in plan.shares:
            if inventory.card(share.spec.device) is None:
                raise DeviceLost(
                    f"claim {plan.namespace}/{plan.name}: device {share.spec.device} is gone from this node"
                )
        live = self._cutting.find(plan)
        self._shares.ensure(plan, boot=self._boot, texts=metadata_files(plan, inventory))
        self._cdi.write(plan.uid, claim_spec(plan, inventory, self._paths, live=live))

    def _read(self, ref: ClaimRef, *, patience_s: float) -> ResourceClaim:
        """The claim that kubelet means.

        An API server that does not answer is asked again for a while: after a failure kubelet comes back in a minute or more.
        """
        backoff = Backoff(base_s=0.1, cap_s=2.0)
        deadline = self._clock.monotonic() + patience_s
        while True:
            try:
                with self._reading(ref), self._step("claim"):
                    claim = self._claims.get(namespace=ref.namespace, name=ref.name)
                break
            except NotFound as error:
                raise ClaimChanged(f"claim {ref.namespace}/{ref.name} was deleted") from error
            except ApiUnavailable as error:
                delay_s = backoff.next_s(at_least_s=error.retry_after_s or 0.0)
                if self._clock.monotonic() + delay_s >= deadline or self._wait(delay_s):
                    raise
        if (uid := claim["metadata"].get("uid")) != ref.uid:
            raise ClaimChanged(
                f"claim {ref.namespace}/{ref.name} was replaced: its UID is {uid}, kubelet asked for {ref.uid}"
            )
        return claim

    @contextlib.contextmanager
    def _reading(self, ref: ClaimRef) -> Iterator[None]:
        """A few at a time: a burst of pods goes through the connections that are open instead of opening one for each."""
        if not self._reads.acquire(timeout=_PATIENCE_S):
            raise ApiUnavailable(
                f"claim {ref.namespace}/{ref.name}: the API server is slow, and others wait for it already"
            )
        try:
            yield
        finally:
            self._reads.release()

    def _repeat(self, ref: ClaimRef, plan: ClaimPlan) -> Prepared:
        """Answer for a prepared claim, which needs neither the API server nor, where its files are whole, the hardware."""
        try:
            claim = self._read(ref, patience_s=0.0)
        except ApiUnavailable:
            claim = None
        if claim is not None and (changed := _changed(read_allocation(claim), plan)) is not None:
            if ref.uid in self._in_use():
                raise changed
            _log.warning("prepared anew: %s", changed, extra={"claim_uid": ref.uid})
            self.undo(ref.uid)
            return self._first(ref)
        with self._step("repeat"):
            try:
                self.ensure_files(plan, self._discovery.current())
            except DriverError:
                # Right after a start the hardware may not be known yet; what was written before is as good as ever.
                if plan.uid not in self._cdi.uids():
                    raise
        return Prepared(plan=plan, claim=claim)

    def _first(self, ref: ClaimRef) -> Prepared:
        claim = self._read(ref, patience_s=_PATIENCE_S)
        inventory = self._discovery.current()
        offers = self._pool.offers()
        with self._step("plan"):
            plan = self._plan(claim, inventory, offers)
        with self._step("begin"):
            check = functools.partial(check_capacity, plan, inventory=inventory, offers=offers)
            plan = self._cutting.begin(plan, check=check)
        try:
            with self._step("partitions"):
                plan, live = self._cutting.cut(plan, inventory)
            with self._step("modes"):
                self.modes.enter(plan)
            self._caps.hold(plan)
            with self._step("shares"):
                self._shares.ensure(plan, boot=self._boot, texts=metadata_files(plan, inventory))
            with self._step("cdi"):
                self._cdi.write(plan.uid, claim_spec(plan, inventory, self._paths, live=live))
            with self._step("complete"):
                self._ledger.complete(plan.uid)
        except HamiDraError:
            # What cannot be undone now stays Started, and the next attempt undoes it.
            with contextlib.suppress(HamiDraError):
                self.undo(plan.uid)
            raise
        return Prepared(plan=plan, claim=claim)

    def _plan(self, claim: ResourceClaim, inventory: Inventory, offers: Offers) -> ClaimPlan:
        allocation = read_allocation(claim)
        where = f"claim {allocation.namespace}/{allocation.name}"
        for result in allocation.results:
            if result.pool != self._pool.name:
                raise UnknownDevice(
                    f"{where}: device {result.device} is of pool {result.pool}, but this node's pool is {self._pool.name}"
                )
            if inventory.card(result.device) is None and self._discovery.was_here(card_of(result.device)):
                raise DeviceLost(f"{where}: device {result.device} was on this node and is gone")
            self._check_health(where, result)
        return plan_claim(allocation, resolve(allocation), inventory, offers=offers)

    def _check_health(self, where: str, result: Result) -> None:
        """A scheduler that knows no taints, or not yet, may have given a dead card away; monitors see it all the same."""
        why = "" if result.admin_access else self._pool.unusable(result.device, result.tolerated)
        if why:
            raise CardNotHealth(
                f"{where}: device {result.device} cannot be used: {why}; delete the pod to get another one"
            )

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started = self._clock.monotonic()
        yield
        self._observe(name, self._clock.monotonic() - started)


def _check_uid(uid: ClaimUid) -> None:
    """A UID becomes a file name: let nothing else through."""
    if not _UID.fullmatch(uid):
        raise ClaimChanged(f"{uid!r} is not the UID of a claim")


def _changed(allocation: Allocation, plan: ClaimPlan) -> ClaimChanged | None:
    """Why a prepared claim cannot be handed to its consumers of now: something else was allocated to them.

    Kubelet prepares what it holds for unprepared, so it will not unprepare the former allocation: it never knew of it, or it did
    so before the ledger was put back.  Only what was allocated counts, not what configuration makes of it: another release may
    read that differently.
    """
    allocated = [
        (r.request, r.pool, r.device, r.share_id, r.memory_bytes, r.cores_percent or 0) for r in allocation.results
    ]
    prepared = [
        (s.request, s.pool, s.device, s.share_id, s.memory_bytes, s.cores_percent)
        for s in (share.spec for share in plan.shares)
    ]
    if allocated == prepared:
        return None
    return ClaimChanged(
        f"claim {plan.namespace}/{plan.name} is prepared on {', '.join(s.spec.key for s in plan.shares)}, but is allocated"
        f" {', '.join(result.key for result in allocation.results)} now; processes that have the former share must end first"
    )
