"""Keeps the grants of all shares on this node up to date: the arbiter's eyes and hands.

Ten times a second (four while nobody computes), for each card whose shares need words: read what the shares say of themselves,
ask the driver what their processes really used, let `core.arbiter` decide, and write the grants that changed into limits
files.  A node without such cards costs one look at a directory a second.  Nothing is kept on disk: a killed arbiter's grants
stay in force until the next one decides, and a page that it left half-written is repaired then.  One process of a node does
this; a second one, in a rolling update, waits.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.core.arbiter import CardState, Look, Truth, decide, is_contested
from hami_dra.core.errors import DriverError, HamiDraError, NodeStateError
from hami_dra.core.figures import Watch, attribute, watch
from hami_dra.core.ids import ClaimUid, GpuUuid
from hami_dra.core.limits import Limits
from hami_dra.core.plan import ClaimPlan
from hami_dra.core.usage import Usage
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import Attribution, Ledger, LiveShareFiles

__all__ = ["Arbiter"]

_log = logging.getLogger(__name__)

_PERIOD_S = 0.1
_QUIET_S = 0.25
"""Between rounds while no share wants anything: whoever wakes up first has no rival yet, and its guarantee in any case."""
_QUIET_AFTER_S = 2.0
_IDLE_S = 1.0
"""Between looks for claims while no card needs rounds at all."""
_REREAD_S = 10.0
"""The ledger is read when the claims' directory changed, and now and then in case that was missed."""
_MOST_NS = 64_000_000_000
"""No round lasts long enough for a share to be charged more: a larger step is nonsense from a usage file."""
_THROTTLED_PERMILLE = 10
"""What the watchdog leaves to a share: enough for its programs to end in order."""
_SAME = 0.01
"""A grant that changed by less is not worth making every process of the share read its page again."""


@dataclass(slots=True, kw_only=True)
class _Share:
    """One share with limits, and what was seen of it."""

    uid: ClaimUid
    limits: Limits
    name: Mapping[str, str]
    """Labels of its metrics."""
    usage: Usage | None = None
    written: int | None = None
    """The grant in its page; None: nobody looked yet."""
    throttled: bool = False
    """Whether its page says that it gets next to nothing."""

    @property
    def id(self) -> str:
        return f"{self.uid}/{self.limits.share}"


@dataclass(slots=True, kw_only=True)
class _Card:
    """One card and its shares."""

    shares: dict[str, _Share] = field(default_factory=dict)
    state: CardState = field(default_factory=CardState)
    at_s: float = 0.0
    """When the last round was."""
    wanted_s: float = 0.0
    """When any of its shares last wanted to compute."""
    watch: Watch = field(default_factory=Watch)
    """The books of the driver's figures."""


class Arbiter:
    """Decides who computes how much on the cards of this node."""

    def __init__(
        self,
        *,
        shares: LiveShareFiles,
        ledger: Ledger,
        boot: str,
        attribution: Attribution | None,
        metrics: NodeMetrics,
        group: Group,
        throttled: Callable[[], Collection[str]] = frozenset,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Work for the claims that the ledger knows of this boot.

        Args:
            shares: their files.
            ledger: read again whenever claims came or went.
            boot: id of the running boot.
            attribution: the driver's figures; None where its processes cannot be told apart.
            metrics: told of grants and failures.
            group: whose stop ends `run`.
            throttled: shares (`<claim>/<share>`) that the watchdog wants to get no more memory and next to no compute.
            clock: measures rounds.
        """
        self._files = shares
        self._ledger = ledger
        self._boot = boot
        self._attribution = attribution
        self._metrics = metrics
        self._group = group
        self._throttled = throttled
        self._clock = clock
        self._cards: dict[GpuUuid, _Card] = {}
        self._stamp: int | None = None
        self._read_s = 0.0
        self._said: set[str] = set()

    def run(self) -> None:
        """Decide until the group stops; wait while another process does."""
        while not self._group.stopping:
            try:
                with self._files.alone() as mine:
                    while mine and not self._group.stopping:
                        self._group.wait(self.round())
            except NodeStateError as error:
                self._failed(error)
            self._group.wait(_IDLE_S)

    def round(self) -> float:
        """One round over all cards; says how many seconds the next one may wait."""
        self._refresh()
        wait_s = _IDLE_S
        for uuid, card in self._cards.items():
            looks = [_look(share, None, None) for share in card.shares.values()]
            contested = is_contested(looks, watched=self._attribution is not None)
            self._decide(uuid, card, contested=contested)
            if contested:
                quiet = card.at_s - card.wanted_s >= _QUIET_AFTER_S
                wait_s = min(wait_s, _QUIET_S if quiet else _PERIOD_S)
        return wait_s

    def _decide(self, uuid: GpuUuid, card: _Card, *, contested: bool) -> None:
        now_s = self._clock.monotonic()
        elapsed_s = min(_IDLE_S, max(0.001, now_s - card.at_s))
        card.at_s = now_s
        looks = [self._observe(share) if contested else _look(share, None, None) for share in card.shares.values()]
        wanted = any(look.wanted for look in looks)
        if wanted:
            card.wanted_s = now_s
        truth = self._truth(uuid, card, now_s) if wanted else None
        card.state, grants = decide(card.state, looks, elapsed_s=elapsed_s, truth=truth)
        throttled = self._throttled()
        for key, share in card.shares.items():
            held = key in throttled
            if held != share.throttled:
                share.throttled, share.written = held, None
                grants = {key: 0, **grants}
        for key, granted in grants.items():
            share = card.shares[key]
            self._write(share, _THROTTLED_PERMILLE if share.throttled else granted)

    def _observe(self, share: _Share) -> Look:
        before, share.usage = share.usage, self._files.usage(share.uid, share.limits.share)
        return _look(share, before, share.usage)

    def _truth(self, uuid: GpuUuid, card: _Card, now_s: float) -> Truth | None:
        """New figures of the driver, if it has any."""
        attribution = self._attribution
        if attribution is None:
            return None
        try:
            figures = attribution.meter.figures(uuid, since_us=card.watch.at_us or 0)
        except DriverError as error:
            self._failed(error)
            return None
        card.watch, window = watch(card.watch, figures, now_s=now_s)
        if window is None:
            return None

        def owner(pid: int) -> list[str]:
            return [f"{uid}/{key}" for uid, key in attribution.owner(pid)]

        return attribute(figures.busy if figures else {}, window, owner=owner, shares=card.shares.keys())

    def _write(self, share: _Share, granted: int) -> None:
        if share.written is not None and _same(share.written, granted):
            return
        try:
            memory = 1 if share.throttled else share.limits.memory_limit_bytes  # 0 would be no limit at all
            limits = replace(share.limits, granted_permille=granted, memory_limit_bytes=memory)
            there = self._files.change(share.uid, limits)
        except HamiDraError as error:
            self._failed(error)
            return
        if not there:  # not yet, or not any more
            return
        share.written = granted
        self._metrics.granted(share.name, (granted or share.limits.cores_percent * 10 or 1000) / 1000)

    def _refresh(self) -> None:
        """Take in claims that came, drop those that went."""
        stamp, now_s = self._files.stamp(), self._clock.monotonic()
        if stamp == self._stamp and now_s - self._read_s < _REREAD_S:
            return
        try:
            entries = self._ledger.entries()
        except HamiDraError as error:
            self._failed(error)
            return
        self._stamp, self._read_s = stamp, now_s
        known = {share.id: share for card in self._cards.values() for share in card.shares.values()}
        shares: dict[str, _Share] = {}
        for entry in entries:
            for planned in entry.plan.shares:
                limits = planned.limits
                if entry.boot == self._boot and limits is not None and planned.guarded:
                    share = _Share(uid=entry.plan.uid, limits=limits, name=_name(entry.plan, limits))
                    if (same := known.get(share.id)) is not None:
                        # Its files may be new ones, if the claim was unprepared and prepared again in between.
                        same.limits, same.written = limits, None
                        share = same
                    shares[share.id] = share
        for gone in known.keys() - shares.keys():
            self._metrics.share_gone(known[gone].name)
        cards: dict[GpuUuid, _Card] = {}
        for share in shares.values():
            uuid = share.limits.device_uuid
            if uuid not in cards:
                cards[uuid] = self._cards.get(uuid, _Card(at_s=now_s))
                cards[uuid].shares = {}
            cards[uuid].shares[share.id] = share
        self._cards = cards

    def _failed(self, error: HamiDraError) -> None:
        """Ten failures a second are one to whoever reads the log."""
        self._metrics.arbiter_failed(error.reason)
        message = str(error)
        if message not in self._said:
            self._said = {message}
            _log.warning("compute is not arbitrated as it should be: %s", message)


def _name(plan: ClaimPlan, limits: Limits) -> dict[str, str]:
    return {"namespace": plan.namespace, "claim": plan.name, "share": limits.share}


def _same(written: int, granted: int) -> bool:
    """0 is a word of its own."""
    if written == 0 or granted == 0:
        return written == granted
    return abs(written - granted) <= _SAME * written


def _look(share: _Share, before: Usage | None, now: Usage | None) -> Look:
    charged = throttled = 0
    wanted = False
    if before is not None and now is not None:
        charged = min(_MOST_NS, max(0, now.gpu_time_ns - before.gpu_time_ns))
        throttled = max(0, now.throttled_ns - before.throttled_ns)
        # Any change will do: what the tenant's clock says is the tenant's business.
        wanted = now.wanted_at_ns != before.wanted_at_ns or charged > 0 or throttled > 0
    limits = share.limits
    return Look(
        key=share.id,
        cores_percent=limits.cores_percent,
        qos=limits.qos,
        priority=limits.priority,
        wanted=wanted,
        throttled=throttled > 0 or (wanted and now is not None and now.bucket_ns < 0),
        charged_ns=charged,
    )
