"""Brings cards into the modes that their shares ask for, and back when the last of those has left.

What a card's mode must be is known from the ledger alone: the rows of the claims that use it.  Whoever looks at the rows and
changes the card accordingly holds the lock of its mode, across processes; a row is written before its claim enters, and goes
after it left.  So of two claims that come and go at once, the later one sees the other's row or undoes what the other did.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.api.opaque import Interval, Isolation
from hami_dra.core.errors import DriverError, MpsNotReady
from hami_dra.core.ids import ClaimUid, DeviceName, GpuUuid
from hami_dra.core.modes import unit_of
from hami_dra.core.mps import Wanted, wanted_of
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.node.ports import NodeFiles

__all__ = ["CardModes"]

_log = logging.getLogger(__name__)

_MPS_PATIENCE_S = 20.0
"""How long a prepare waits for a daemon, of the 45 s that kubelet waits for the answer."""
_MPS_LOOK_S = 0.05


class CardModes:
    """The modes of this node's cards.  Safe to use from many threads; claims on different cards do not wait for another."""

    def __init__(
        self,
        files: NodeFiles,
        *,
        wait: Callable[[float], bool],
        resets: Callable[[DeviceName], int] = lambda _device: 0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Work on these adapters.

        Args:
            files: the ledger, the locks, and what sets modes.
            wait: waits so many seconds, and says whether to give up.
            resets: how often a device's card was seen to have forgotten what it was told.
            clock: measures how long a daemon is waited for.
        """
        self._ledger = files.ledger
        self._locks = files.locks
        self._slices = files.time_slices
        self._mps = files.mps
        self._boot = files.boot
        self._wait = wait
        self._resets = resets
        self._clock = clock
        self._said: dict[GpuUuid, int] = {}
        """After how many resets this process has told cards their interval."""

    def enter(self, plan: ClaimPlan) -> None:
        """Bring the claim's cards into the modes that it needs; its row is there.

        Raises:
            DriverError: a card does not answer.
            MpsNotReady: a daemon does not take clients in time.
            NodeStateError: a daemon cannot be asked for.
        """
        asked: dict[DeviceName, Wanted] = {}
        for share in plan.shares:
            unit = unit_of(share.spec.device)
            if share.spec.interval is not None:
                with self._hold(unit):
                    self._say(unit, share.gpu_uuid, share.spec.interval)
            elif share.spec.isolation is Isolation.MPS:
                with self._hold(unit):
                    wanted = wanted_of(self._shares(unit))
                    if wanted is not None:
                        self._mps.want(unit, wanted)
                        asked[unit] = wanted
        for unit, wanted in asked.items():
            self._await(f"claim {plan.namespace}/{plan.name}", unit, wanted)

    def leave(self, uid: ClaimUid) -> None:
        """Take the claim's cards back from modes that nobody else needs; its row is still there, or never was.

        A driver that does not answer keeps nobody from leaving: what it was told ends with it, and the next share tells it anew.

        Raises:
            NodeStateError: a daemon is still asked for.
        """
        entry = self._ledger.get(uid)
        for share in entry.plan.shares if entry is not None and entry.boot == self._boot else ():
            unit = unit_of(share.spec.device)
            if share.spec.isolation is Isolation.TIME_SLICING:
                with self._hold(unit):
                    self._take_back(share, others=self._shares(unit, but=uid))
            elif share.spec.isolation is Isolation.MPS:
                with self._hold(unit):
                    self._want(unit, wanted_of(self._shares(unit, but=uid)))

    def settle(self) -> dict[DeviceName, DriverError | None]:
        """Tell the driver what it was told by another process, or has forgotten since: a card forgets by a reset.

        Gives, for each card that takes turns by its shares' interval, why it does not; None for those that do.

        Raises:
            NodeStateError: the ledger cannot be read, or somebody else works on a card for too long.
        """
        found: dict[DeviceName, DriverError | None] = {}
        for share in self._shares():
            unit = unit_of(share.spec.device)
            if share.spec.interval is not None and unit not in found:
                found[unit] = self._settle(unit, share.gpu_uuid)
        return found

    def _settle(self, unit: DeviceName, gpu: GpuUuid) -> DriverError | None:
        if self._said.get(gpu) == self._resets(unit):
            return None
        try:
            with self._hold(unit):
                wanted = next(filter(None, (share.spec.interval for share in self._shares(unit))), None)
                if wanted is not None:
                    self._say(unit, gpu, wanted)
        except DriverError as error:
            return error
        return None

    def ask(self) -> None:
        """Ask for the daemons that the ledger says are needed, and for no others.

        Raises:
            NodeStateError: that could not be written.
        """
        units = {unit_of(share.spec.device) for share in self._shares() if share.spec.isolation is Isolation.MPS}
        for unit in sorted(units | self._mps.wanted().keys()):
            with self._hold(unit):
                self._want(unit, wanted_of(self._shares(unit)))

    def _want(self, unit: DeviceName, wanted: Wanted | None) -> None:
        if wanted is None:
            self._mps.forget(unit)
        else:
            self._mps.want(unit, wanted)

    def _await(self, where: str, unit: DeviceName, wanted: Wanted) -> None:
        deadline_s = self._clock.monotonic() + _MPS_PATIENCE_S
        while True:
            answer = self._mps.answer(unit)
            if answer is not None and answer.serves is not None and answer.serves.suffices(wanted):
                return
            if self._clock.monotonic() >= deadline_s or self._wait(_MPS_LOOK_S):
                break
        if not self._mps.kept():
            why = "hami-dra mps does not run on this node; set mps.enabled in the chart's values"
        else:
            why = (answer.message if answer is not None else "") or "it does not answer"
        raise MpsNotReady(f"{where}: the MPS control daemon of {unit} takes no clients: {why}")

    def _take_back(self, share: PlannedShare, *, others: Iterator[PlannedShare]) -> None:
        if any(other.spec.interval is not None for other in others):
            return
        try:
            self._say(unit_of(share.spec.device), share.gpu_uuid, Interval.DEFAULT)
        except DriverError as error:
            _log.warning("the time slice of %s stays as it is: %s", share.spec.device, error)

    def _say(self, unit: DeviceName, gpu: GpuUuid, interval: Interval) -> None:
        resets = self._resets(unit)  # before it is told: of a reset meanwhile nobody knows whether it came first
        self._slices.set(gpu, interval)
        self._said[gpu] = resets

    def _hold(self, unit: DeviceName) -> AbstractContextManager[None]:
        """Beside the lock of the card, which is held while it is cut."""
        return self._locks.hold(DeviceName(f"{unit}.mode"))

    def _shares(self, unit: DeviceName | None = None, *, but: ClaimUid | None = None) -> Iterator[PlannedShare]:
        """The shares of this boot, of all devices or one, but those of one claim."""
        for entry in self._ledger.entries():
            if entry.boot == self._boot and entry.plan.uid != but:
                for share in entry.plan.shares:
                    if unit is None or unit_of(share.spec.device) == unit:
                        yield share
