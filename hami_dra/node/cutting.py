"""Cuts cards into the partitions that claims need, and joins them again after the last.

Which instances on a card are ours is known from the ledger alone: the row of a claim says `ours` for a partition that was not
there when the row was written, and is written before the partition is made.  So what no row of this boot calls ours is somebody
else's, an administrator's above all, and is never removed.  Whoever decides, makes or removes holds the lock of the card, across
processes; a partition that several claims share goes with the last of them.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from hami_dra.core.errors import DeviceLost, PartitionRefused
from hami_dra.core.ids import ClaimUid, DeviceName
from hami_dra.core.inventory import Gpu, Inventory, LivePartition, Partition, parse_partition
from hami_dra.core.plan import ClaimPlan, PlannedPartition, PlannedShare
from hami_dra.core.record import Entry
from hami_dra.node.ports import NodeFiles

__all__ = ["Cutting", "OwnedInstances"]


class Cutting:
    """The partitions of this node's cards.  Safe to use from many threads; claims on different cards do not wait for another."""

    def __init__(self, files: NodeFiles) -> None:
        """Work on `files`."""
        self._partitioner = files.partitions
        self._ledger = files.ledger
        self._locks = files.locks
        self._boot = files.boot

    def begin(self, plan: ClaimPlan, *, check: Callable[[Sequence[ClaimPlan]], None]) -> ClaimPlan:
        """Write the claim down as Started; gives the plan with whose its partitions are.

        Raises:
            HamiDraError: what `check` raised, or a card does not answer; nothing was written.
        """
        with self._hold(plan):
            owned = self._with_owners(plan)
            self._ledger.begin(owned, check=check)
        return owned

    def cut(self, plan: ClaimPlan, inventory: Inventory) -> tuple[ClaimPlan, Mapping[DeviceName, LivePartition]]:
        """Make what the claim, which is written down, needs of its cards; gives the plan with the names of its partitions.

        Raises:
            HamiDraError: a card cannot be what the claim needs, or not now.
        """
        for share in plan.shares:
            gpu = inventory.gpu(share.spec.device)
            if gpu is not None and gpu.mig is not None and not share.spec.admin_access:
                self._partitioner.make_whole(gpu.name)
        with self._hold(plan):
            live = self._ensure(plan)
            seen = self._seen(plan)
            named = replace(plan, shares=tuple(_named(share, live) for share in plan.shares))
            if named != plan:
                self._ledger.begin(named, check=lambda _others: None)
        return named, seen | live

    def find(self, plan: ClaimPlan) -> Mapping[DeviceName, LivePartition]:
        """The partitions of a prepared claim; those of ours that are gone, as after a reset of the GPU, are made again.

        Raises:
            DeviceLost: a partition has another name than its containers know.
            HamiDraError: one cannot be made again, or not now.
        """
        with self._hold(plan):
            live = self._ensure(plan)
            seen = self._seen(plan)
        for share in plan.shares:
            if _named(share, live) != share:
                raise DeviceLost(
                    f"claim {plan.namespace}/{plan.name}: device {share.spec.device} was made anew by the driver and is not the"
                    " one that the claim's containers know; delete the pods that use it"
                )
        return seen | live

    def release(self, uid: ClaimUid) -> None:
        """Remove the claim's partitions that nobody else needs, then its row; an unknown claim is no error.

        Raises:
            HamiDraError: a partition is still there, and so is the row.
        """
        entry = self._ledger.get(uid)
        if entry is None:
            return
        with self._hold(entry.plan):
            if entry.boot == self._boot:  # instances do not outlive a boot: what is there now is not what was made then
                needed = _ours(self._ledger.entries(), boot=self._boot, but=uid)
                for partition in _partitions(entry.plan):
                    if partition.ours and partition.place not in needed:
                        self._partitioner.remove(partition.place)
            self._ledger.remove(uid)

    def _with_owners(self, plan: ClaimPlan) -> ClaimPlan:
        places = {partition.place for partition in _partitions(plan)}
        if not places:
            return plan
        ours = _ours(self._ledger.entries(), boot=self._boot, but=plan.uid)
        there = {place for gpu in {place.gpu for place in places} for place in self._partitioner.live(gpu)}
        return replace(plan, shares=tuple(_owned(share, there - ours) for share in plan.shares))

    def _ensure(self, plan: ClaimPlan) -> dict[DeviceName, LivePartition]:
        return {
            share.spec.device: self._partitioner.ensure(share.partition.place, make=share.partition.ours)
            for share in plan.shares
            if share.partition is not None
        }

    def _seen(self, plan: ClaimPlan) -> dict[DeviceName, LivePartition]:
        """The partitions that monitors are to see, of those that exist: nothing is made for them, and nothing is kept."""
        found: dict[DeviceName, LivePartition] = {}
        for place in _watched(plan):
            with contextlib.suppress(PartitionRefused):  # half made, or cut further by somebody else
                if place in self._partitioner.live(place.gpu):
                    found[place.name] = self._partitioner.ensure(place, make=False)
        return found

    @contextlib.contextmanager
    def _hold(self, plan: ClaimPlan) -> Iterator[None]:
        """Keep others from the partitions of the plan's cards; always in the same order, so that nobody waits in a circle."""
        with contextlib.ExitStack() as stack:
            places = {partition.place for partition in _partitions(plan)} | _watched(plan)
            for gpu in sorted({place.gpu for place in places}):
                stack.enter_context(self._locks.hold(gpu))
            yield


class OwnedInstances:
    """Call it for the inventory, in which the instances made for claims are told apart from those of others."""

    def __init__(self, discover: Callable[[], Inventory], files: NodeFiles) -> None:
        """`discover` looks at the hardware; the ledger of `files` says what is ours."""
        self._discover = discover
        self._files = files

    def __call__(self) -> Inventory:
        """Look at the hardware.

        An instance of ours has a row from before it is made until after it is gone: what the look saw was named by the ledger
        before the look or is named after it.

        Raises:
            DriverError: it does not answer.
        """
        before = self._ours()
        inventory = self._discover()
        ours = before | self._ours()
        return replace(inventory, gpus=tuple(_marked(gpu, ours) for gpu in inventory.gpus))

    def _ours(self) -> set[Partition]:
        return _ours(self._files.ledger.entries(), boot=self._files.boot)


def _marked(gpu: Gpu, ours: set[Partition]) -> Gpu:
    instances = tuple(
        replace(each, ours=Partition(gpu=gpu.name, profile=each.profile, start=each.start) in ours)
        for each in gpu.instances
    )
    return replace(gpu, instances=instances)


def _ours(entries: Iterable[Entry], *, boot: str, but: ClaimUid | None = None) -> set[Partition]:
    """The partitions that claims of this boot had made."""
    return {
        partition.place
        for entry in entries
        if entry.boot == boot and entry.plan.uid != but
        for partition in _partitions(entry.plan)
        if partition.ours
    }


def _partitions(plan: ClaimPlan) -> list[PlannedPartition]:
    return [share.partition for share in plan.shares if share.partition is not None]


def _watched(plan: ClaimPlan) -> set[Partition]:
    """The places on cards that monitors are to see."""
    places = (parse_partition(share.spec.device) for share in plan.shares if share.spec.admin_access)
    return {place for place in places if place is not None}


def _owned(share: PlannedShare, foreign: set[Partition]) -> PlannedShare:
    if share.partition is None:
        return share
    return replace(share, partition=replace(share.partition, ours=share.partition.place not in foreign))


def _named(share: PlannedShare, live: Mapping[DeviceName, LivePartition]) -> PlannedShare:
    if share.partition is None:
        return share
    return replace(share, partition=replace(share.partition, uuid=live[share.spec.device].uuid))
