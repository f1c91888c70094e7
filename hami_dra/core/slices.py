"""From an inventory to the ResourceSlices that a node should have.

Pure; `core.slice_diff` compares with what the API server holds and `node.publisher` writes.  `core.layout` says into what each
card is cut, `core.devices` what the devices look like; here they get their taints and come into slices within the limits of the
API: counters in slices of their own (1.35+), the devices of a card together where they fit.  Invariants: equal inputs give equal
slices, and a device that is held is in them as long as it was published; one that is to get no new work and may be shared, but
cannot say so by a taint, has no slot left.  So has one that the settings leave out while it is in use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hami_dra.api.k8s import Capacity, Device, ResourceSliceSpec
from hami_dra.api.names import CAPACITY_SLOTS, DRIVER, GATE_CONSUMABLE_CAPACITY, GATE_TAINTS, POOL_SUFFIX
from hami_dra.core.devices import CutCard, cut_card
from hami_dra.core.ids import DeviceName, NodeName, PoolName
from hami_dra.core.inventory import Inventory, card_of
from hami_dra.core.layout import Layout, Server, published_layouts, settled_layout, wished_layout
from hami_dra.core.settings import CardSettings, NodeSettings
from hami_dra.core.taints import Taints, taints_of

__all__ = ["COUNTER_SETS_PER_SLICE", "DEVICES_PER_SLICE", "Desired", "desired_slices", "pool_name"]

T = TypeVar("T")

DEVICES_PER_SLICE = 64
"""Limit of resource.k8s.io/v1 for slices in which a device has taints or counters, and a taint may come at any time."""
COUNTER_SETS_PER_SLICE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What should be published, and what it means."""

    slices: tuple[ResourceSliceSpec, ...]
    """All of generation 0 (`core.slice_diff` sets it)."""
    layouts: Mapping[DeviceName, Layout] = field(default_factory=dict)
    """Into what each card is cut now."""
    waiting: Mapping[DeviceName, Layout | None] = field(default_factory=dict)
    """Cards with devices that are held, and what becomes of them when they are free; None: nothing."""

    @property
    def devices(self) -> int:
        """How many there are."""
        return sum(len(spec.get("devices", [])) for spec in self.slices)


def pool_name(node: NodeName) -> PoolName:
    """`<node>/gpu`: counter caches of 1.34 to 1.36 collide on a bare node name."""
    return PoolName(f"{node}/{POOL_SUFFIX}")


def desired_slices(
    inventory: Inventory,
    *,
    node: NodeName,
    settings: NodeSettings,
    server: Server | None = None,
    taints: Taints | None = None,
    held: frozenset[DeviceName] = frozenset(),
    observed: Sequence[ResourceSliceSpec] = (),
) -> Desired:
    """The slices of the node's pool.

    A node without a GPU has one empty slice, which tells that the driver runs and found nothing.

    Args:
        inventory: what the node has.
        node: its name.
        settings: how its cards are to be offered.
        server: what the API server keeps; None: everything.
        taints: what is wrong with devices; one that is to get no new work is left out where the server keeps no taints, or closed
            if it is held.
        held: devices that are allocated and prepared here, which are never left out.
        observed: the slices of the pool as they are: they say in what layout a card with held devices was published.
    """
    server = server or Server()
    published = published_layouts(device for spec in observed for device in spec.get("devices", []))
    layouts: dict[DeviceName, Layout] = {}
    waiting: dict[DeviceName, Layout | None] = {}
    cards: list[CutCard] = []
    for gpu in inventory.gpus:
        chosen = settings.settings_for(gpu)
        wished = None if chosen is None else wished_layout(gpu, chosen, server)
        of_card = [name for name in held if card_of(name) == gpu.name]
        layout = settled_layout(gpu, wished=wished, published=published.get(gpu.name), held=of_card, server=server)
        if layout != wished:
            waiting[gpu.name] = wished
        if layout is not None:
            layouts[gpu.name] = layout
            cut = cut_card(gpu, settings=chosen or CardSettings(), layout=layout)
            cards.append(cut if chosen is not None else _emptied(cut, held))
    cards.append(_leftovers(cards, held=held, server=server, observed=observed))
    marked = [_with_taints(card, taints or {}, held=held, kept=GATE_TAINTS not in server.closed) for card in cards]
    return Desired(slices=_pack(marked, node), layouts=layouts, waiting=waiting)


def _emptied(card: CutCard, held: frozenset[DeviceName]) -> CutCard:
    """A card that is left out and in use: what is held, and nothing for anybody else."""
    kept = tuple(_closed(device) for device in card.devices if device["name"] in held)
    return CutCard(devices=kept, counters=card.counters)


def _leftovers(
    cards: Iterable[CutCard], *, held: frozenset[DeviceName], server: Server, observed: Sequence[ResourceSliceSpec]
) -> CutCard:
    """Held devices that nothing of the inventory makes any more, as they were published: those of a lost card, for instance.

    Without counters, since nothing is left with which they would share any, and closed: nothing could serve a new share.
    """
    made = {device["name"] for card in cards for device in card.devices}
    kept = [
        _closed(_without_closed(device, server))
        for spec in observed
        for device in spec.get("devices", [])
        if device["name"] in held and device["name"] not in made
    ]
    return CutCard(devices=tuple(kept))


def _without_closed(device: Device, server: Server) -> Device:
    kept: Device = {"name": device["name"], "attributes": device.get("attributes", {})}
    capacity = device.get("capacity", {})
    if device.get("allowMultipleAllocations") and GATE_CONSUMABLE_CAPACITY not in server.closed:
        return kept | {"capacity": capacity, "allowMultipleAllocations": True}
    return kept | {"capacity": {name: {"value": entry["value"]} for name, entry in capacity.items()}}


def _with_taints(card: CutCard, taints: Taints, *, held: frozenset[DeviceName], kept: bool) -> CutCard:
    devices: list[Device] = []
    found = taints_of(card.devices, taints)
    for device in card.devices:
        name = DeviceName(device["name"])
        of_device = found[name]
        if kept:
            devices.append(device | {"taints": of_device} if of_device else device)
        elif all(taint["effect"] == "None" for taint in of_device):
            devices.append(device)
        elif name in held:
            devices.append(_closed(device))
    return CutCard(devices=tuple(devices), counters=card.counters)


def _closed(device: Device) -> Device:
    """The device as those have it who have it, and without room for another share.

    A share takes a slot, and the scheduler compares what all of them have taken with what there is: there is none.  The default
    says that a claim takes one; without it a claim would take all that there is, which nobody could refuse once the last
    holder has gone and before that is published.
    """
    if not device.get("allowMultipleAllocations"):
        return device  # its one claim has it
    none: Capacity = {"value": "0", "requestPolicy": {"default": "1"}}
    return device | {"capacity": device.get("capacity", {}) | {CAPACITY_SLOTS: none}}


def _pack(cards: Sequence[CutCard], node: NodeName) -> tuple[ResourceSliceSpec, ...]:
    counters = _chunks([card.counters for card in cards if card.counters is not None], COUNTER_SETS_PER_SLICE)
    devices: list[list[Device]] = []
    for card in cards:
        if devices and len(devices[-1]) + len(card.devices) <= DEVICES_PER_SLICE:
            devices[-1].extend(card.devices)
        else:
            devices += _chunks(card.devices, DEVICES_PER_SLICE)
    base: ResourceSliceSpec = {
        "driver": DRIVER,
        "nodeName": node,
        "pool": {"name": pool_name(node), "generation": 0, "resourceSliceCount": max(len(counters) + len(devices), 1)},
    }
    counter_slices = [base | {"sharedCounters": chunk} for chunk in counters]
    return (*counter_slices, *(base | {"devices": chunk} for chunk in devices or [[]]))


def _chunks(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
