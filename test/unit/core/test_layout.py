"""Into what cards are cut, and what becomes of cards that are in use."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.core.inventories import MIG, gpu, inventory

from hami_dra.api.k8s import Device, ResourceSliceSpec
from hami_dra.core.ids import DeviceName, GpuUuid, NodeName
from hami_dra.core.inventory import Gpu, Inventory, MigInstance, card_of, device_name, fixed_share_name
from hami_dra.core.layout import Layout, Server, missing_gates, wished_layout
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings
from hami_dra.core.slices import COUNTER_SETS_PER_SLICE, DEVICES_PER_SLICE, Desired, desired_slices

NODE = NodeName("node-1")
CONSUMABLE, PARTITIONS, TAINTS = "DRAConsumableCapacity", "DRAPartitionableDevices", "DRADeviceTaints"
CARD = gpu(mig=MIG)
IN_MIG_MODE = gpu(mig=replace(MIG, enabled=True, switchable=False))
SHARES = Layout(mode=CardMode.SHARES, shared=True)
FIXED = Layout(mode=CardMode.FIXED_SHARES, parts=4)
WHOLE = Layout(mode=CardMode.WHOLE)
CUT = Layout(mode=CardMode.PARTITIONS, shared=True)


def desired(
    *gpus: Gpu, mode: CardMode = CardMode.SHARES, parts: int = 4, closed: set[str] | None = None, **inputs: Any
) -> Desired:
    """What a node with these cards publishes."""
    given: dict[str, Any] = {
        "settings": NodeSettings(default=CardSettings(mode=mode, fixed_shares=parts)),
        "server": Server(closed=frozenset(closed or ())),
        **inputs,
    }
    return desired_slices(Inventory(gpus=gpus or (CARD,)), node=NODE, **given)


def devices(of: Desired) -> dict[str, Device]:
    """All devices, by name."""
    return {device["name"]: device for spec in of.slices for device in spec.get("devices", [])}


def cards(count: int) -> list[Gpu]:
    """That many cards that can be cut."""
    return [replace(CARD, name=device_name(f"0000:{number:02x}:00.0")) for number in range(count)]


@pytest.mark.parametrize(
    ("mode", "closed", "layout"),
    [
        (CardMode.PARTITIONS, set(), CUT),
        (CardMode.PARTITIONS, {CONSUMABLE}, Layout(mode=CardMode.PARTITIONS)),
        (CardMode.PARTITIONS, {PARTITIONS}, SHARES),
        (CardMode.PARTITIONS, {PARTITIONS, CONSUMABLE}, FIXED),
        (CardMode.SHARES, {PARTITIONS}, SHARES),
        (CardMode.SHARES, {CONSUMABLE}, FIXED),
        (CardMode.FIXED_SHARES, set(), FIXED),
        (CardMode.WHOLE, set(), WHOLE),
    ],
)
def test_a_card_gets_the_richest_layout_that_the_server_keeps(mode: CardMode, closed: set[str], layout: Layout) -> None:
    """From partitions over shares and fixed shares down to whole cards, never above what the settings wish."""
    server = Server(closed=frozenset(closed))
    assert wished_layout(CARD, CardSettings(mode=mode), server) == layout
    assert missing_gates(CARD, CardSettings(mode=mode), server) == closed & (
        {CONSUMABLE} if mode is CardMode.SHARES else {CONSUMABLE, PARTITIONS}
    )


def test_what_cannot_be_cut_is_offered_otherwise() -> None:
    """No MIG, no partitions; no fixed shares wanted, or nothing to hold them: the whole card."""
    wish = CardSettings(mode=CardMode.PARTITIONS)
    assert wished_layout(gpu(), wish, Server()) == SHARES
    assert wished_layout(gpu(mig=replace(MIG, switchable=False)), wish, Server()) == SHARES
    assert wished_layout(IN_MIG_MODE, wish, Server()) == CUT
    assert wished_layout(replace(gpu(), holder=None), wish, Server()) == WHOLE
    assert missing_gates(replace(gpu(), holder=None), wish, Server(closed=frozenset({PARTITIONS}))) == frozenset()
    none_fixed = CardSettings(fixed_shares=0)
    assert wished_layout(gpu(), none_fixed, Server(closed=frozenset({CONSUMABLE}))) == WHOLE


def test_partitions_are_not_shared_where_the_scheduler_would_not_charge_them() -> None:
    """Before 1.36.2 a share of a partition leaves its memory slices to others."""
    of = desired(mode=CardMode.PARTITIONS, server=Server(counts_shares=False))
    assert not any("allowMultipleAllocations" in device for device in devices(of).values())


def test_fixed_shares_are_equal_parts() -> None:
    """Plain devices with memory and cores of their own, which say on which card they lie."""
    of = devices(desired(mode=CardMode.FIXED_SHARES, parts=3))
    assert list(of) == [f"gpu-0000-17-00-0-share-{index}" for index in range(3)]
    for device in of.values():
        assert device.get("capacity") == {"memory": {"value": "27306Mi"}, "cores": {"value": "33"}}
        attributes = device.get("attributes", {})
        assert (attributes["type"], attributes["mode"]) == ({"string": "share"}, {"string": "FixedShares"})
        assert attributes["uuid"] == {"string": CARD.uuid}


def test_partitions_come_with_counters_in_a_slice_of_their_own() -> None:
    """The whole card first, then every place; each takes its counters and can be shared."""
    of = desired(mode=CardMode.PARTITIONS)
    counters, places = of.slices
    assert [each["name"] for each in counters.get("sharedCounters", [])] == [f"{CARD.name}-counters"]
    assert "devices" not in counters
    published = places.get("devices", [])
    assert len(published) == of.devices == 26
    assert published[0]["name"] == CARD.name
    smallest = published[1]
    assert smallest["name"] == f"{CARD.name}-mig-1g-10gb-6"
    assert smallest.get("allowMultipleAllocations") is True
    assert smallest.get("capacity", {})["memory"]["value"] == "9856Mi"
    attributes = smallest.get("attributes", {})
    assert attributes["migProfile"] == attributes["partitionProfile"] == {"string": "1g.10gb"}
    assert attributes["parentUUID"] == {"string": CARD.uuid}
    assert attributes["type"] == {"string": "mig"}
    assert "uuid" not in attributes
    assert all(len(device.get("consumesCounters", [])) == 1 for device in published)


def test_a_card_that_cannot_leave_mig_mode_is_not_offered_as_a_whole() -> None:
    """Nobody could use it."""
    assert IN_MIG_MODE.name not in devices(desired(IN_MIG_MODE, mode=CardMode.PARTITIONS))


@pytest.mark.parametrize("closed", [set(), {CONSUMABLE}])
def test_instances_that_somebody_made_are_published_as_found(closed: set[str]) -> None:
    """Static MIG: shared where that can be, with the UUID that they have; no counters, since they exist side by side."""
    instance = MigInstance(
        profile="3g.40gb",
        start=4,
        uuid=GpuUuid("MIG-1"),
        gpu_instance_id=1,
        compute_instance_id=0,
        memory_bytes=40192 << 20,
    )
    of = devices(desired(replace(IN_MIG_MODE, instances=(instance,)), closed=closed))
    (device,) = of.values()
    assert device["name"] == f"{CARD.name}-mig-3g-40gb-4"
    assert device.get("attributes", {})["uuid"] == {"string": "MIG-1"}
    assert ("allowMultipleAllocations" in device) != bool(closed)
    assert "consumesCounters" not in device


def test_oversubscribed_devices_say_so() -> None:
    """More is promised than there is."""
    settings = NodeSettings(default=CardSettings(memory_percent=200))
    (device,) = devices(desired(settings=settings)).values()
    assert device.get("attributes", {})["oversubscribed"] == {"bool": True}
    assert device.get("capacity", {})["memory"]["value"] == "160Gi"


def test_one_node_mixes_modes() -> None:
    """Each card is cut as its settings say."""
    modes = list(CardMode)
    gpus = cards(len(modes))
    settings = NodeSettings(cards={card.name: CardSettings(mode=mode) for card, mode in zip(gpus, modes, strict=True)})
    of = desired(*gpus, settings=settings)
    assert [of.layouts[card.name].mode for card in gpus] == modes
    assert of.devices == 1 + 26 + 4 + 1


@given(
    mixed=st.lists(st.sampled_from([*CardMode, None]), max_size=20),
    parts=st.integers(1, 150),
    closed=st.sets(st.sampled_from([CONSUMABLE, PARTITIONS, TAINTS])),
)
def test_slices_stay_within_the_api(mixed: list[CardMode | None], parts: int, closed: set[str]) -> None:
    """However many cards in whatever modes: every device once, and every counter set that is consumed."""
    gpus = cards(len(mixed))
    settings = NodeSettings(
        cards={
            card.name: None if mode is None else CardSettings(mode=mode, fixed_shares=parts)
            for card, mode in zip(gpus, mixed, strict=True)
        }
    )
    of = desired_slices(
        Inventory(gpus=tuple(gpus)), node=NODE, settings=settings, server=Server(closed=frozenset(closed))
    )
    names: list[str] = []
    sets: set[str] = set()
    consumed: set[str] = set()
    for spec in of.slices:
        assert ("devices" in spec) != ("sharedCounters" in spec)
        assert len(spec.get("devices", [])) <= DEVICES_PER_SLICE
        assert len(spec.get("sharedCounters", [])) <= COUNTER_SETS_PER_SLICE
        assert spec["pool"]["resourceSliceCount"] == len(of.slices)
        names += [device["name"] for device in spec.get("devices", [])]
        sets |= {each["name"] for each in spec.get("sharedCounters", [])}
        consumed |= {
            use["counterSet"] for device in spec.get("devices", []) for use in device.get("consumesCounters", [])
        }
    assert len(names) == len(set(names)) == of.devices
    assert sets == consumed
    assert {card_of(name) for name in names} == {card.name for card, mode in zip(gpus, mixed, strict=True) if mode}
    assert all(
        len(device.get("capacity", {})) + len(device.get("attributes", {})) <= 32 for device in devices(of).values()
    )


def published(mode: CardMode, **rest: Any) -> tuple[ResourceSliceSpec, ...]:
    """What was published before."""
    return desired(mode=mode, **rest).slices


@pytest.mark.parametrize(
    ("before", "held"),
    [
        (CardMode.SHARES, CARD.name),
        (CardMode.WHOLE, CARD.name),
        (CardMode.FIXED_SHARES, fixed_share_name(CARD.name, 2)),
        (CardMode.PARTITIONS, DeviceName(f"{CARD.name}-mig-2g-20gb-4")),
    ],
)
@pytest.mark.parametrize("after", [*CardMode, None])
@pytest.mark.parametrize("shown", [True, False])
def test_a_card_in_use_keeps_its_layout_until_it_is_free(
    before: CardMode, held: DeviceName, after: CardMode | None, *, shown: bool
) -> None:
    """The device that is held stays under its name; the change waits, and comes when the claim has ended."""
    observed = published(before)
    settings = NodeSettings(default=CardSettings(mode=after)) if after else NodeSettings(cards={CARD.name: None})
    waiting = desired(settings=settings, held=frozenset({held}), observed=observed if shown else ())
    assert held in devices(waiting)
    assert CARD.name in waiting.layouts
    if shown:
        assert waiting.layouts[CARD.name].mode is before
        assert (CARD.name in waiting.waiting) is (before is not after)
    free = desired(settings=settings, observed=observed)
    assert [layout.mode for layout in free.layouts.values()] == ([after] if after else [])
    assert not free.waiting


def test_fixed_shares_in_use_keep_their_number() -> None:
    """With eight instead of four each would be smaller than what is held."""
    held = frozenset({fixed_share_name(CARD.name, 3)})
    observed = published(CardMode.FIXED_SHARES, parts=4)
    assert desired(mode=CardMode.FIXED_SHARES, parts=8, held=held, observed=observed).layouts[CARD.name].parts == 4
    assert desired(mode=CardMode.FIXED_SHARES, parts=2, held=held).layouts[CARD.name].parts == 4


def test_a_gate_that_closes_takes_back_nothing_that_is_held() -> None:
    """Partitions without counters would overlap: only what is held stays.  A share stays, too, for nobody else."""
    held = DeviceName(f"{CARD.name}-mig-2g-20gb-4")
    observed = published(CardMode.PARTITIONS)
    closed = desired(
        mode=CardMode.PARTITIONS, closed={PARTITIONS, CONSUMABLE}, held=frozenset({held}), observed=observed
    )
    (device,) = devices(closed).values()
    assert device["name"] == held
    assert set(device) == {"name", "attributes", "capacity"}
    assert device["capacity"]["memory"] == {"value": "19968Mi"}
    assert closed.waiting == {CARD.name: FIXED}
    again = desired(
        mode=CardMode.PARTITIONS, closed={PARTITIONS, CONSUMABLE}, held=frozenset({held}), observed=closed.slices
    )
    assert again.slices == closed.slices
    shares = desired(closed={CONSUMABLE}, held=frozenset({CARD.name}), observed=published(CardMode.SHARES))
    assert list(devices(shares)) == [CARD.name]
    assert "allowMultipleAllocations" not in devices(shares)[CARD.name]


def test_a_lost_card_keeps_the_devices_that_are_held() -> None:
    """As they were, with what is wrong with them; the rest of the card goes."""
    held = DeviceName(f"{CARD.name}-mig-2g-20gb-4")
    taint = {"key": "gpu.hami.io/lost", "effect": "NoSchedule"}
    lost = desired_slices(
        Inventory(),
        node=NODE,
        settings=NodeSettings(),
        taints={CARD.name: (taint,)},  # type: ignore[dict-item] # a taint in all but its type
        held=frozenset({held}),
        observed=published(CardMode.PARTITIONS),
    )
    (device,) = devices(lost).values()
    assert (device["name"], device.get("taints")) == (held, [taint])
    assert device.get("allowMultipleAllocations") is True
    assert device.get("capacity", {})["slots"] == {"value": "0", "requestPolicy": {"default": "1"}}
    assert "consumesCounters" not in device


def test_taints_of_a_card_are_those_of_its_parts() -> None:
    """And a part can have some of its own; the worst comes first."""
    part = fixed_share_name(CARD.name, 1)
    of = desired(
        mode=CardMode.FIXED_SHARES,
        taints={CARD.name: ({"key": "card", "effect": "None"},), part: ({"key": "part", "effect": "NoSchedule"},)},
    )
    found = {name: [taint["key"] for taint in device.get("taints", [])] for name, device in devices(of).items()}
    assert found.pop(part) == ["part", "card"]
    assert set(map(tuple, found.values())) == {("card",)}


def test_slices_of_somebody_else_say_nothing_of_layouts() -> None:
    """A device without a mode, or with one of another release."""
    strange: ResourceSliceSpec = {
        "driver": "gpu.hami.io",
        "pool": {"name": "node-1/gpu", "generation": 1, "resourceSliceCount": 1},
        "devices": [{"name": CARD.name}, {"name": CARD.name, "attributes": {"mode": {"string": "shares"}}}],
    }
    of = desired(held=frozenset({CARD.name}), observed=[strange], mode=CardMode.WHOLE)
    assert of.layouts[CARD.name] == WHOLE


def test_a_node_with_cards_of_two_kinds_publishes_both() -> None:
    """Those that cannot be cut are shared."""
    of = desired(*inventory(2).gpus[1:], CARD, mode=CardMode.PARTITIONS)
    assert of.devices == 27


def test_a_card_with_instances_of_others_is_offered_as_found() -> None:
    """Whatever the mode, their instances are its devices; those that were made for claims change nothing."""
    instance = MigInstance(
        profile="1g.10gb",
        start=6,
        uuid=GpuUuid("MIG-1"),
        gpu_instance_id=13,
        compute_instance_id=0,
        memory_bytes=9 << 30,
    )
    enabled = replace(MIG, enabled=True)
    for mode in CardMode:
        found = devices(desired(replace(CARD, mig=enabled, instances=(instance,)), mode=mode))
        assert list(found) == [f"{CARD.name}-mig-1g-10gb-6"]
    ours = replace(CARD, mig=enabled, instances=(replace(instance, ours=True),))
    assert devices(desired(ours, mode=CardMode.PARTITIONS)) == devices(desired(mode=CardMode.PARTITIONS))


def test_an_empty_card_in_mig_mode_is_offered_as_one_device() -> None:
    """Prepare brings it out of the mode, as after a change of the node's configuration; where that takes a reset it has none."""
    enabled = replace(CARD, mig=replace(MIG, enabled=True))
    assert list(devices(desired(enabled))) == [CARD.name]
    assert list(devices(desired(IN_MIG_MODE))) == []


def test_a_card_whose_mode_makes_partitions_is_offered_in_it_and_whole() -> None:
    """As AMD's are: parts that nobody shares and that promise no cores, on counters that keep them from the whole card."""
    cpx = replace(MIG.profiles[0], name="cpx", memory_slices=1, instances=8, placements=tuple((n, 1) for n in range(8)))
    amd = replace(gpu(mig=replace(MIG, enabled=False, switchable=True, profiles=(cpx,))), holder=None)
    found = devices(desired(amd, mode=CardMode.PARTITIONS))
    assert list(found) == [amd.name, *(f"{amd.name}-cpx-{n}" for n in range(8))]
    attributes = found[DeviceName(f"{amd.name}-cpx-0")].get("attributes", {})
    assert attributes["type"] == {"string": "partition"}
    assert attributes["partitionProfile"] == {"string": "cpx"}
    assert "migProfile" not in attributes
    assert "uuid" not in attributes
    assert not any("allowMultipleAllocations" in device or "cores" in device["capacity"] for device in found.values())
    assert all(card_of(name) == amd.name and found[name]["consumesCounters"] for name in found)
    assert wished_layout(amd, CardSettings(mode=CardMode.PARTITIONS), Server(closed=frozenset({PARTITIONS}))) == WHOLE
    closed = Server(closed=frozenset({PARTITIONS, CONSUMABLE}))
    assert missing_gates(amd, CardSettings(mode=CardMode.PARTITIONS), closed) == {PARTITIONS}
    assert missing_gates(replace(amd, mig=None), CardSettings(mode=CardMode.PARTITIONS), closed) == frozenset()
