"""Brings cards into the modes that their shares ask for, and back when the last of those has left.

What a card's mode must be is known from the ledger alone: the rows of the claims that use it.  Whoever looks at the rows and
changes the card accordingly holds the lock of its mode, across processes; a row is written before its claim enters, and goes
after it left.  So of two claims that come and go at once, the later one sees the other's row or undoes what the other did.
"""

import logging
from collections.abc import Iterator

from hami_dra.api.opaque import Interval, Isolation
from hami_dra.core.errors import DriverError
from hami_dra.core.ids import ClaimUid, DeviceName, GpuUuid
from hami_dra.core.modes import unit_of
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.node.ports import NodeFiles

__all__ = ["CardModes"]

_log = logging.getLogger(__name__)


class CardModes:
    """The modes of this node's cards.  Safe to use from many threads; claims on different cards do not wait for another."""

    def __init__(self, files: NodeFiles) -> None:
        """Work on `files`."""
        self._ledger = files.ledger
        self._locks = files.locks
        self._slices = files.time_slices
        self._boot = files.boot
        self._said: dict[GpuUuid, Interval] = {}
        """What this process has told the driver."""

    def enter(self, plan: ClaimPlan) -> None:
        """Bring the claim's cards into the modes that it needs; its row is there.

        Raises:
            DriverError: a card does not answer.
        """
        for share in plan.shares:
            if share.spec.interval is not None:
                with self._locks.hold(_lock(share)):
                    self._say(share.gpu_uuid, share.spec.interval)

    def leave(self, uid: ClaimUid) -> None:
        """Take the claim's cards back from modes that nobody else needs; its row is still there, or never was.

        A driver that does not answer keeps nobody from leaving: what it was told ends with it, and the next share tells it anew.
        """
        entry = self._ledger.get(uid)
        for share in entry.plan.shares if entry is not None and entry.boot == self._boot else ():
            if share.spec.interval is None:
                continue
            with self._locks.hold(_lock(share)):
                if any(other.gpu_uuid == share.gpu_uuid for other in self._sliced(but=uid)):
                    continue
                try:
                    self._say(share.gpu_uuid, Interval.DEFAULT)
                except DriverError as error:
                    _log.warning("the time slice of %s stays as it is: %s", share.spec.device, error)

    def settle(self) -> None:
        """Tell the driver what it may have forgotten since another process told it; failures are logged, not raised."""
        for share in self._sliced():
            if share.gpu_uuid in self._said or share.spec.interval is None:
                continue
            try:
                with self._locks.hold(_lock(share)):
                    if any(other.gpu_uuid == share.gpu_uuid for other in self._sliced()):
                        self._say(share.gpu_uuid, share.spec.interval)
            except DriverError as error:
                _log.warning("the time slice of %s is not as its shares want it: %s", share.spec.device, error)

    def _say(self, gpu: GpuUuid, interval: Interval) -> None:
        self._slices.set(gpu, interval)
        self._said[gpu] = interval

    def _sliced(self, *, but: ClaimUid | None = None) -> Iterator[PlannedShare]:
        """The time-sliced shares of this boot, but those of one claim."""
        for entry in self._ledger.entries():
            if entry.boot == self._boot and entry.plan.uid != but:
                yield from (share for share in entry.plan.shares if share.spec.isolation is Isolation.TIME_SLICING)


def _lock(share: PlannedShare) -> DeviceName:
    """Beside the lock of the card, which is held while it is cut."""
    return DeviceName(f"{unit_of(share.spec.device)}.mode")
