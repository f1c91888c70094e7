"""The last line against overbooking and mixed isolation: a plan held against every share that is prepared here.

The scheduler normally sees to it that all fits, but stale caches, force-deleted pods and changes of a device's mode do happen.
Pure: the ledger asks, before it writes a plan down (`core.plan` makes plans).
"""

from collections.abc import Iterable

from hami_dra.api.quantity import format_bytes
from hami_dra.core.devices import Offers, Size
from hami_dra.core.errors import CapacityExceeded, IsolationConflict
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, Inventory, card_of, fixed_share_index, parse_partition
from hami_dra.core.modes import unit_of
from hami_dra.core.plan import ClaimPlan, PlannedShare

__all__ = ["check_capacity"]

_MOST_NAMED = 5
"""Holders in a message: a card can have hundreds, and an Event holds a kibibyte."""


def check_capacity(
    plan: ClaimPlan, prepared: Iterable[ClaimPlan], inventory: Inventory, *, offers: Offers | None = None
) -> None:
    """Refuse a plan that would take a card above what it has, given the other claims prepared here.

    Shares with admin access consume nothing.

    Raises:
        CapacityExceeded: memory or cores of a device or of its card would be exceeded, a whole device would be shared, or a card
            would be used in two forms at once.
        IsolationConflict: a card's shares would be isolated in several ways at once.
    """
    others = [(claim, share) for claim in prepared if claim.uid != plan.uid for share in claim.shares]
    holders = [*others, *((plan, share) for share in plan.shares)]
    consuming = [(claim, share) for claim, share in holders if not share.spec.admin_access]
    mine = [share for share in plan.shares if not share.spec.admin_access]
    for card in dict.fromkeys(card_of(share.spec.device) for share in mine):
        gpu = inventory.gpu(card)
        if gpu is not None:
            on_card = [(claim, share) for claim, share in consuming if card_of(share.spec.device) == card]
            _check_card(gpu, on_card, plan, (offers or Offers()).size(gpu, gpu.memory_bytes))
            _check_modes(on_card, plan)


def _check_card(gpu: Gpu, holders: list[tuple[ClaimPlan, PlannedShare]], plan: ClaimPlan, size: Size) -> None:
    """A card is used as one device or in parts, and no device by more than it has."""
    mine = [share for claim, share in holders if claim is plan]
    for share in mine:
        for claim, other in holders:
            if _form(share.spec.device) != _form(other.spec.device) or _overlap(share, other):
                raise CapacityExceeded(
                    f"claim {plan.namespace}/{plan.name}: device {share.spec.device} cannot be used beside"
                    f" {other.spec.device}, which is in use by {claim.namespace}/{claim.name}"
                )
    _check_free(gpu.name, size, [each for each in holders if fixed_share_index(each[1].spec.device) is not None], plan)
    for name in dict.fromkeys(share.spec.device for share in mine):
        on_device = [(claim, share) for claim, share in holders if share.spec.device == name]
        others = [claim for claim, _ in on_device if claim is not plan]
        if others and any(share.spec.share_id is None for _, share in on_device):
            raise CapacityExceeded(
                f"claim {plan.namespace}/{plan.name}: device {name} is allocated as a whole, but is in use by {_named(others)}"
            )
        _check_free(name, next(share.offered for share in mine if share.spec.device == name), on_device, plan)


def _form(device: DeviceName) -> str:
    """What of a card the device is: two forms of one card cannot be used side by side."""
    if fixed_share_index(device) is not None:
        return "fixed share"
    return "card" if parse_partition(device) is None else "partition"


def _overlap(one: PlannedShare, other: PlannedShare) -> bool:
    """Whether the two, of one card, are partitions that cannot exist at once."""
    return one.partition is not None and other.partition is not None and one.partition.overlaps(other.partition)


def _check_free(name: str, size: Size, holders: list[tuple[ClaimPlan, PlannedShare]], plan: ClaimPlan) -> None:
    where = f"claim {plan.namespace}/{plan.name}: device {name}"
    mine = [share for claim, share in holders if claim is plan]
    others = [(claim, share) for claim, share in holders if claim is not plan]
    held_by = _named(claim for claim, _ in others)
    rest = f"; the rest is held by {held_by}" if held_by else ""
    memory = sum(share.memory_bytes for share in mine)
    free = size.memory_bytes - sum(share.memory_bytes for _, share in others)
    if memory > free:
        raise CapacityExceeded(
            f"{where} has {format_bytes(max(free, 0))} of {format_bytes(size.memory_bytes)} free,"
            f" {format_bytes(memory)} asked{rest}"
        )
    cores = sum(share.cores_percent for share in mine)
    free_cores = size.cores_percent - sum(share.cores_percent for _, share in others)
    if cores > free_cores:
        raise CapacityExceeded(
            f"{where} has {max(free_cores, 0)} of {size.cores_percent} cores free, {cores} asked{rest}"
        )


def _check_modes(holders: Iterable[tuple[ClaimPlan, PlannedShare]], plan: ClaimPlan) -> None:
    """All shares of a card, or of a partition, are isolated in one way: those of the new plan as those that are there."""
    first: dict[DeviceName, tuple[ClaimPlan, PlannedShare]] = {}
    for claim, share in sorted(holders, key=lambda holder: holder[0] is plan):
        other, held = first.setdefault(unit_of(share.spec.device), (claim, share))
        if _mode(share) != _mode(held):
            raise IsolationConflict(
                f"claim {claim.namespace}/{claim.name}: device {share.spec.device} would be isolated by {_mode(share)}, but"
                f" {other.namespace}/{other.name} uses {held.spec.device} with {_mode(held)}, and one card is used in one way"
                " at a time; agree on one, or have the claims put on different cards"
            )


def _mode(share: PlannedShare) -> str:
    interval = share.spec.interval
    return f"{share.spec.isolation}" + (f" of interval {interval}" if interval is not None else "")


def _named(claims: Iterable[ClaimPlan]) -> str:
    names = list(dict.fromkeys(f"{claim.namespace}/{claim.name}" for claim in claims))
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} others" if more > 0 else "")
