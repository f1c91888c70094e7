"""What a start does about the past, and what a look every few seconds does about files that went missing.

`recover` needs no hardware: it undoes preparations that did not end, drops everything of another boot, takes claims back that the
ledger lost, and removes files that nobody owns.  `restore` makes missing files and partitions of
prepared claims again as soon as the devices are known, and undoes what `recover` could not because a card had to answer.  Both
leave a claim alone that somebody is working on: a second node plugin may run beside this one.
"""

import contextlib
import logging
from collections.abc import Callable

from hami_dra._lib.threads import Group
from hami_dra.core.errors import DeviceError, DriverError, HamiDraError, NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.core.inventory import Inventory, Partition
from hami_dra.core.plan import ClaimPlan
from hami_dra.core.record import Entry
from hami_dra.node.discovery import Discovery
from hami_dra.node.ports import NodeFiles
from hami_dra.node.state import NodeState

__all__ = ["Recovery"]

_log = logging.getLogger(__name__)

_LOOK_S = 5.0
"""A container that starts without its CDI spec fails, and kubelet lets it wait ever longer: be faster than that."""


class Recovery:
    """Brings the files of this node and its ledger together."""

    def __init__(self, *, state: NodeState, discovery: Discovery, files: NodeFiles) -> None:
        """Work with the files that `state` works with."""
        self._state = state
        self._discovery = discovery
        self._ledger = files.ledger
        self._shares = files.shares
        self._cdi = files.cdi
        self._locks = files.locks
        self._boot = files.boot

    def recover(self) -> None:
        """Once, before kubelet can call.

        Raises:
            NodeStateError: the node's files cannot be read or written.
        """
        if self._ledger.moved_aside is not None:
            _log.warning("the ledger was damaged and is made again; the old one lies at %s", self._ledger.moved_aside)
        for entry in self._ledger.entries():
            if not self._state.is_prepared(entry):
                self._undo_unfinished(entry.plan.uid)
        for uid in sorted(self._cdi.uids() | self._shares.uids()):
            self._settle(uid)
        self._state.modes.ask()
        self._cdi.sweep()

    def run(self, group: Group) -> None:
        """Look for what is missing or left until the group stops; before the devices are known, nothing could be made again."""
        while not group.wait(_LOOK_S):
            if self._discovery.latest is not None:
                self._mend(lambda _plan: True)
            with contextlib.suppress(HamiDraError):  # another look follows
                self._state.unprepare_late()

    def restore(self) -> None:
        """After each look at the hardware: make again what prepared claims lack.  Failures are logged, not raised."""
        there = _instances(self._discovery.current())
        self._mend(lambda plan: _partitions(plan) <= there)

    def _mend(self, is_cut: Callable[[ClaimPlan], bool]) -> None:
        """Make again what prepared claims lack.

        Args:
            is_cut: whether the partitions of a claim are there, as far as is known.
        """
        try:
            entries = self._ledger.entries()
            whole = self._cdi.uids() & self._shares.uids()  # after the rows: what came since is whole or under way
            for entry in entries:
                if not self._state.is_prepared(entry):
                    self._undo_unfinished(entry.plan.uid)
                elif entry.plan.uid not in whole or not is_cut(entry.plan):
                    self._restore_claim(entry.plan.uid)
            self._cdi.sweep()
        except NodeStateError as error:
            _log.warning("files of prepared claims could not be made again: %s", error)

    def _undo_unfinished(self, uid: ClaimUid) -> None:
        with self._locks.try_hold(uid) as mine:
            entry = self._ledger.get(uid) if mine else None
            if entry is not None and not self._state.is_prepared(entry):
                try:
                    self._state.undo(uid)
                except (DriverError, DeviceError) as error:
                    _log.info("a preparation of an earlier run is undone when the driver answers: %s", error)
                    return
                _log.info("undid a preparation of an earlier run", extra={"claim_uid": uid, "phase": entry.phase})

    def _settle(self, uid: ClaimUid) -> None:
        """Take files without a row back into the ledger if it lost them; remove them if nobody owns them.

        A row is the first thing of a claim to come and the last to go, so whole files of this boot without one say that the
        ledger was removed, damaged, or put back to an older state; containers may be using them.
        """
        with self._locks.try_hold(uid) as mine:
            if not mine or self._ledger.get(uid) is not None:
                return
            entry = self._shares.record(uid)
            if entry is not None and self._was_prepared(uid, entry):
                self._ledger.restore([entry])
                _log.warning("took a claim back that the ledger had lost", extra={"claim_uid": uid})
                return
            self._cdi.remove(uid)
            self._shares.remove(uid)
            _log.info("removed files that belong to no claim", extra={"claim_uid": uid})

    def _was_prepared(self, uid: ClaimUid, entry: Entry) -> bool:
        """Whether the record is of this claim and boot, and the preparation came to its spec."""
        return (
            entry.boot == self._boot and entry.plan.uid == uid and (self._ledger.made_anew or uid in self._cdi.uids())
        )

    def _restore_claim(self, uid: ClaimUid) -> None:
        with self._locks.try_hold(uid) as mine:
            entry = self._ledger.get(uid) if mine else None
            if entry is None or not self._state.is_prepared(entry):
                return
            try:
                self._state.ensure_files(entry.plan, self._discovery.current())
            except (DeviceError, DriverError) as error:
                _log.warning("what a prepared claim lacks could not be made again: %s", error)
                return
            _log.info("made again what a claim lacked", extra={"claim_uid": uid})


def _partitions(plan: ClaimPlan) -> set[Partition]:
    return {share.partition.place for share in plan.shares if share.partition is not None}


def _instances(inventory: Inventory) -> set[Partition]:
    return {
        Partition(gpu=gpu.name, profile=instance.profile, start=instance.start)
        for gpu in inventory.gpus
        for instance in gpu.instances
    }
