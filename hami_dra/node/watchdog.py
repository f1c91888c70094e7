"""Holds what the driver says of each process against the limits of its share, and does what the policy says.

The guard is cooperative: a program that gets round it is held by nothing.  The driver's figures cannot be got round by whoever
uses the card, and whose process it is, `node.attributor` knows by its cgroup.  `core.watchdog` decides what is too much for too
long.  Then: `Report` (Event on claim and pods, metric, log), `Throttle` (the same, and the share's page grants next to nothing)
or `Stop` (the same, and its processes on the card are killed).  What no share explains is counted as others', never acted upon.
A partition is looked at by itself: a pod may have shares of several on one card, and only there do the figures say which.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ObjectReference
from hami_dra.api.nodeconfig import WatchdogPolicy
from hami_dra.api.quantity import format_bytes
from hami_dra.core.errors import HamiDraError
from hami_dra.core.figures import Watch, attribute, watch
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import card_of
from hami_dra.core.limits import Limits
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.core.settings import WatchdogSettings
from hami_dra.core.watchdog import Reading, ShareWatch, observe
from hami_dra.node.attributor import Attributor
from hami_dra.node.ports import EventSink, Ledger

__all__ = ["Watchdog", "Watched"]

_log = logging.getLogger(__name__)

_PERIOD_S = 2.0
_IDLE_S = 5.0
_REASON = "ShareLimitExceeded"
_REASON_END = "ShareLimitKept"
_DONE = {
    WatchdogPolicy.REPORT: "it is reported, and nothing else is done",
    WatchdogPolicy.THROTTLE: "it gets no more memory and next to no compute",
    WatchdogPolicy.STOP: "its processes on the card are stopped",
}


@dataclass(slots=True, kw_only=True)
class Watched:
    """One share with limits, and what is known of it."""

    plan: ClaimPlan
    planned: PlannedShare
    limits: Limits
    state: ShareWatch = field(default_factory=ShareWatch)
    policy: WatchdogPolicy = WatchdogPolicy.REPORT

    @property
    def id(self) -> str:
        """As the arbiter calls it."""
        return f"{self.plan.uid}/{self.planned.spec.key}"

    @property
    def device(self) -> DeviceName:
        """Of which the driver has figures: the partition, or the card."""
        partition = self.planned.partition
        return card_of(self.planned.spec.device) if partition is None else partition.place.name

    @property
    def there(self) -> bool:
        """Whether the device is: a partition is made after its claim is written down."""
        return self.planned.partition is None or self.planned.partition.uuid is not None


@dataclass(slots=True, kw_only=True)
class _Device:
    """What is remembered of a card, or of a partition."""

    figures: Watch = field(default_factory=Watch)
    others_bytes: int = 0


class Watchdog:
    """Watches the shares of this node."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        boot: str,
        attributor: Attributor,
        settings: Callable[[GpuUuid], WatchdogSettings],
        events: EventSink,
        group: Group,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Watch the shares that the ledger knows of this boot.

        Args:
            ledger: what is prepared.
            boot: id of the running boot.
            attributor: the driver's figures, and whose they are.
            settings: what is to be done about the shares of a card.
            events: takes Events.
            group: whose stop ends `run`.
            clock: measures how long a share is above.
        """
        self._ledger = ledger
        self._boot = boot
        self._attributor = attributor
        self._settings = settings
        self._events = events
        self._group = group
        self._clock = clock
        self._lock = threading.Lock()
        """Over what others read: shares, devices, actions."""
        self._shares: dict[str, Watched] = {}
        self._devices: dict[DeviceName, _Device] = {}
        self._actions: dict[WatchdogPolicy, int] = dict.fromkeys(WatchdogPolicy, 0)
        self._at_s = clock.monotonic()
        self._said: frozenset[str] = frozenset()

    def shares(self) -> list[Watched]:
        """What is known of each share."""
        with self._lock:
            return list(self._shares.values())

    def others(self) -> Mapping[DeviceName, int]:
        """Memory of each card or partition with shares that none of them explains."""
        with self._lock:
            return {name: device.others_bytes for name, device in self._devices.items()}

    def actions(self) -> Mapping[WatchdogPolicy, int]:
        """How often which policy was carried out."""
        with self._lock:
            return dict(self._actions)

    def throttled(self) -> frozenset[str]:
        """The shares whose pages are to grant next to nothing."""
        with self._lock:
            return frozenset(
                share.id
                for share in self._shares.values()
                if share.state.above and share.policy is WatchdogPolicy.THROTTLE
            )

    def run(self) -> None:
        """Watch until the group stops."""
        while not self._group.stopping:
            self._group.wait(_PERIOD_S if self._shares else _IDLE_S)
            if not self._group.stopping:
                self.round()

    def round(self) -> None:
        """Look at all devices once; one that does not answer keeps nobody from looking at the others."""
        now_s = self._clock.monotonic()
        elapsed_s, self._at_s = max(0.001, now_s - self._at_s), now_s
        failed: list[str] = []
        try:
            self._refresh()
            devices: dict[DeviceName, dict[str, Watched]] = {}
            for share in self._shares.values():
                devices.setdefault(share.device, {})[share.id] = share
            known = True
            for name, shares in devices.items():
                try:
                    known &= self._look(name, shares, now_s=now_s, elapsed_s=elapsed_s)
                except HamiDraError as error:
                    failed.append(str(error))
            self._attributor.learn([share.plan for share in self._shares.values()], unknown=not known)
        except HamiDraError as error:
            failed.append(str(error))
        said, self._said = self._said, frozenset(failed)
        for message in sorted(self._said - said):  # every two seconds the same is said once
            _log.warning("shares are not watched as they should be: %s", message)

    def _refresh(self) -> None:
        """Take in shares that came, drop those that went."""
        found: dict[str, Watched] = {}
        for entry in self._ledger.entries():
            for planned in entry.plan.shares:
                limits = planned.limits
                if entry.boot == self._boot and limits is not None:
                    share = Watched(plan=entry.plan, planned=planned, limits=limits)
                    if share.there:
                        found[share.id] = self._shares.get(share.id, share)
        with self._lock:
            self._shares = found
            self._devices = {share.device: self._devices.get(share.device, _Device()) for share in found.values()}

    def _look(self, name: DeviceName, shares: Mapping[str, Watched], *, now_s: float, elapsed_s: float) -> bool:
        """Look at a card or a partition; says whether all of its processes are known."""
        planned = next(iter(shares.values())).planned
        uuid, partition = planned.gpu_uuid, planned.partition
        holders = self._attributor.memory(uuid, partition=None if partition is None else partition.uuid)
        if holders is None:
            return True
        plans = {key: share.plan for key, share in shares.items()}
        owners = {pid: self._attributor.owner(pid, plans) for pid in holders}
        # Of the processes of a partition no driver has such figures.
        busy = None if partition is not None else self._busy(name, uuid, owners, shares, now_s=now_s)
        with self._lock:
            self._devices[name].others_bytes = sum(size for pid, size in holders.items() if owners[pid] is None)
        for key, share in shares.items():
            pids = [pid for pid, owner in owners.items() if owner == key]
            held = sum(holders[pid] for pid in pids)
            reading = Reading(memory_bytes=held, busy=None if busy is None else busy.get(key, 0.0))
            settings = self._settings(uuid)
            self._judge(share, reading, settings=settings, now_s=now_s, elapsed_s=elapsed_s)
            if share.state.above and settings.policy is WatchdogPolicy.STOP:
                self._stop(share, pids, plans)
        return None not in owners.values()

    def _busy(
        self,
        name: DeviceName,
        uuid: GpuUuid,
        owners: Mapping[int, str | None],
        shares: Collection[str],
        *,
        now_s: float,
    ) -> Mapping[str, float] | None:
        """Fraction of the card by share; None where the driver has nothing to say.  Without a context nobody computes."""
        card = self._devices[name]
        figures = self._attributor.figures(uuid, since_us=card.figures.at_us or 0)
        card.figures, window = watch(card.figures, figures, now_s=now_s)
        if window is None:
            return None

        def owner(pid: int) -> list[str]:
            found = owners.get(pid)
            return [] if found is None else [found]

        return attribute(figures.busy if figures else {}, window, owner=owner, shares=shares).busy

    def _judge(
        self, share: Watched, reading: Reading, *, settings: WatchdogSettings, now_s: float, elapsed_s: float
    ) -> None:
        before = share.state
        after = observe(before, reading, limits=share.limits, settings=settings, now_s=now_s, elapsed_s=elapsed_s)
        with self._lock:
            share.state, share.policy = after, settings.policy
            if after.above and not before.above:
                self._actions[settings.policy] += 1
        if after.above and not before.above:
            self._say(share, "Warning", reason=_REASON, message=_excess(share))
        elif before.above and not after.above:
            message = f"device {share.planned.spec.device}: the share keeps to its limits again"
            self._say(share, "Normal", reason=_REASON_END, message=message)

    def _stop(self, share: Watched, pids: Collection[int], plans: Mapping[str, ClaimPlan]) -> None:
        for pid in pids:
            if self._attributor.kill(pid, share=share.id, shares=plans):
                claim = f"{share.plan.namespace}/{share.plan.name}"
                _log.warning("process stopped: its share is above its limits", extra={"pid": pid, "claim": claim})

    def _say(self, share: Watched, event_type: Literal["Normal", "Warning"], *, reason: str, message: str) -> None:
        plan = share.plan
        claim = ObjectReference(
            apiVersion="resource.k8s.io/v1",
            kind="ResourceClaim",
            namespace=plan.namespace,
            name=plan.name,
            uid=plan.uid,
        )
        pods = [
            ObjectReference(apiVersion="v1", kind="Pod", namespace=plan.namespace, name=pod.name, uid=pod.uid)
            for pod in self._attributor.pods(plan)
        ]
        _log.warning("claim %s/%s: %s", plan.namespace, plan.name, message, extra={"policy": share.policy})
        for about in (claim, *pods):
            self._events.emit(about, event_type=event_type, reason=reason, message=message)


def _excess(share: Watched) -> str:
    limits, state = share.limits, share.state
    said = []
    if state.memory.raised:
        held, allowed = (format_bytes(size >> 20 << 20) for size in (state.memory_bytes, limits.memory_limit_bytes))
        said.append(f"holds {held} of {allowed}")
    if state.cores.raised:
        said.append(f"computes {100 * state.busy:.0f} percent of the card on average, of {limits.cores_percent}")
    return f"device {share.planned.spec.device}: by the driver the share {' and '.join(said)}; {_DONE[share.policy]}"
