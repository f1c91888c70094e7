"""Into what a card is cut, here and now: what its settings wish, as far as the API server keeps the fields for it.

A server that drops fields gets the next simpler layout: partitions, shares, fixed shares, whole cards.  A card with a device that
is held keeps the layout in which it is published until it is free: nothing that is allocated is renamed, taken back, or offered a
second time in another form.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from hami_dra.api.k8s import Device
from hami_dra.api.names import ATTRIBUTE_MODE, GATE_CONSUMABLE_CAPACITY, GATE_PARTITIONABLE_DEVICES
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, Holder, card_of, fixed_share_index, parse_partition
from hami_dra.core.settings import CardMode, CardSettings

__all__ = ["Layout", "Server", "is_as_found", "missing_gates", "published_layouts", "settled_layout", "wished_layout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the publisher found out about the API server."""

    closed: frozenset[str] = frozenset()
    """Feature gates whose fields it drops."""
    counts_shares: bool = True
    """Whether its scheduler charges counters for devices that are shared (kubernetes#139034)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one card is published."""

    mode: CardMode
    shared: bool = False
    """Whether a device can be allocated to several claims."""
    parts: int = 0
    """How many fixed shares there are."""


def wished_layout(gpu: Gpu, settings: CardSettings, server: Server) -> Layout:
    """The richest layout on the way down from what the settings wish."""
    guarded = gpu.holder is Holder.GUARD
    consumable = GATE_CONSUMABLE_CAPACITY not in server.closed
    if settings.mode is CardMode.PARTITIONS and _can_be_partitioned(gpu, server) and not _has_foreign(gpu):
        return Layout(mode=CardMode.PARTITIONS, shared=consumable and server.counts_shares and guarded)
    if gpu.holder is None:
        return Layout(mode=CardMode.WHOLE)
    if settings.mode in (CardMode.PARTITIONS, CardMode.SHARES) and consumable:
        return Layout(mode=CardMode.SHARES, shared=True)
    if settings.mode is not CardMode.WHOLE and settings.fixed_shares and not is_as_found(gpu):
        return Layout(mode=CardMode.FIXED_SHARES, parts=settings.fixed_shares)
    return Layout(mode=CardMode.WHOLE)


def is_as_found(gpu: Gpu) -> bool:
    """Whether the card is offered in the instances that somebody else made: prepare cannot bring it out of MIG mode."""
    return gpu.mig is not None and gpu.mig.enabled and (_has_foreign(gpu) or not gpu.mig.switchable)


def missing_gates(gpu: Gpu, settings: CardSettings, server: Server) -> frozenset[str]:
    """The closed gates that stand between the card and what its settings wish."""
    wishes = {
        CardMode.PARTITIONS: {GATE_PARTITIONABLE_DEVICES, GATE_CONSUMABLE_CAPACITY},
        CardMode.SHARES: {GATE_CONSUMABLE_CAPACITY},
    }
    wish = wishes.get(settings.mode, set())
    if gpu.holder is None:
        wish = wish & {GATE_PARTITIONABLE_DEVICES} if gpu.mig is not None else set()
    return server.closed & wish


def settled_layout(
    gpu: Gpu,
    *,
    wished: Layout | None,
    published: Layout | None,
    held: Collection[DeviceName],
    server: Server,
) -> Layout | None:
    """The layout in which the card is to be published; None: not at all.

    Args:
        gpu: the card.
        wished: `wished_layout`, or None for a card that is left out.
        published: the layout that the slices show, if they show any.
        held: devices of this card that are allocated and prepared.
        server: what it keeps.
    """
    if not held:
        return wished
    layout = published or _implied(wished, held)
    if layout.mode is CardMode.PARTITIONS and not _can_be_partitioned(gpu, server):
        return None  # what is held is kept as it stands, the rest would overlap
    return replace(layout, shared=layout.shared and GATE_CONSUMABLE_CAPACITY not in server.closed)


def published_layouts(devices: Iterable[Device]) -> Mapping[DeviceName, Layout]:
    """The layouts of the cards to which published devices belong."""
    layouts: dict[DeviceName, Layout] = {}
    for device in devices:
        card = card_of(device["name"])
        mode = device.get("attributes", {}).get(ATTRIBUTE_MODE, {}).get("string")
        if mode in list(CardMode):
            before = layouts.get(card, Layout(mode=CardMode(mode)))
            layouts[card] = replace(
                before,
                shared=before.shared or device.get("allowMultipleAllocations", False),
                parts=before.parts + (fixed_share_index(device["name"]) is not None),
            )
    return layouts


def _has_foreign(gpu: Gpu) -> bool:
    return any(not instance.ours for instance in gpu.instances)


def _can_be_partitioned(gpu: Gpu, server: Server) -> bool:
    if gpu.mig is None or GATE_PARTITIONABLE_DEVICES in server.closed:
        return False
    return gpu.mig.enabled or gpu.mig.switchable


def _implied(wished: Layout | None, held: Collection[DeviceName]) -> Layout:
    """What the names of held devices say of a layout that nobody shows any more: kubelet deletes slices when it starts."""
    if any(parse_partition(name) for name in held):
        return Layout(mode=CardMode.PARTITIONS, shared=wished is not None and wished.shared)
    indices = [index for name in held if (index := fixed_share_index(name)) is not None]
    if indices:
        parts = 0 if wished is None else wished.parts
        return Layout(mode=CardMode.FIXED_SHARES, parts=max(parts, *(index + 1 for index in indices)))
    if wished is None or wished.mode is CardMode.FIXED_SHARES:
        return Layout(mode=CardMode.SHARES, shared=True)
    return wished
