"""Desired slices and what to write."""

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.core.inventories import MIG, gpu, inventory

from hami_dra.api.k8s import Device, DeviceTaint, ResourceSlice, ResourceSliceSpec
from hami_dra.core.ids import DeviceName, NodeName
from hami_dra.core.inventory import Gpu, Holder, Inventory, device_name
from hami_dra.core.layout import Server
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings
from hami_dra.core.slice_diff import Changes, diff
from hami_dra.core.slices import DEVICES_PER_SLICE, desired_slices

NODE = NodeName("node-1")


def desired(
    node: Inventory, mode: CardMode = CardMode.SHARES, slots: int = 10, **inputs: Any
) -> list[ResourceSliceSpec]:
    """What node-1 should publish."""
    settings = NodeSettings(default=CardSettings(mode=mode, slots=slots))
    return list(desired_slices(node, node=NODE, settings=settings, **inputs).slices)


def only(spec: ResourceSliceSpec) -> Device:
    """The one device of a slice."""
    (device,) = spec.get("devices", [])
    return device


def many(count: int) -> Inventory:
    """A node with `count` cards."""
    return Inventory(gpus=tuple(replace(gpu(), name=DeviceName(f"gpu-{number}")) for number in range(count)))


def applied(observed: list[ResourceSlice], changes: Changes) -> list[ResourceSlice]:
    """What the API server holds after the writes."""
    gone = {item["metadata"]["name"] for item in changes.delete}
    updated = {item["metadata"]["name"]: item for item in changes.update}
    kept = [updated.get(item["metadata"]["name"], item) for item in observed if item["metadata"]["name"] not in gone]
    taken = {item["metadata"]["name"] for item in kept}
    names = (f"slice-{number}" for number in range(1000) if f"slice-{number}" not in taken)
    return kept + [{"metadata": {"name": next(names)}, "spec": spec} for spec in changes.create]


def bare(spec: ResourceSliceSpec) -> ResourceSliceSpec:
    """The spec without its generation."""
    return spec | {"pool": spec["pool"] | {"generation": 0}}


def taint(effect: Literal["None", "NoSchedule", "NoExecute"]) -> DeviceTaint:
    """What an XID makes of a card."""
    return {"key": "gpu.hami.io/xid", "value": "79", "effect": effect}


def test_a_shared_card_offers_memory_cores_and_slots() -> None:
    """Asking nothing takes the whole card; cores are optional; one slot a tenant."""
    (spec,) = desired(inventory())
    (device,) = spec.get("devices", [])
    assert spec["pool"]["name"] == "node-1/gpu"
    assert device["name"] == "gpu-0000-17-00-0"
    assert device.get("allowMultipleAllocations") is True
    assert device.get("capacity") == {
        "memory": {
            "value": "80Gi",
            "requestPolicy": {"default": "80Gi", "validRange": {"min": "1Mi", "max": "80Gi", "step": "1Mi"}},
        },
        "cores": {
            "value": "100",
            "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
        },
        "slots": {"value": "10", "requestPolicy": {"default": "1", "validValues": ["1"]}},
    }


def test_attributes_are_typed_and_versions_are_semver() -> None:
    """A driver's 570.124.06 has a leading zero that the API server refuses."""
    (spec,) = desired(inventory())
    assert spec.get("devices", [])[0].get("attributes") == {
        "vendor": {"string": "nvidia"},
        "type": {"string": "gpu"},
        "mode": {"string": "Shares"},
        "uuid": {"string": "GPU-00000000-0000-4000-8000-000000000000"},
        "productName": {"string": "NVIDIA A100-SXM4-80GB"},
        "brand": {"string": "Nvidia"},
        "architecture": {"string": "Ampere"},
        "resource.kubernetes.io/pciBusID": {"string": "0000:17:00.0"},
        "resource.kubernetes.io/pcieRoot": {"string": "pci0000:00"},
        "cudaComputeCapability": {"version": "8.0.0"},
        "driverVersion": {"version": "570.124.6"},
        "cudaDriverVersion": {"version": "12.8.0"},
        "minor": {"int": 0},
        "index": {"int": 0},
        "resource.kubernetes.io/numaNode": {"int": 0},
        "simulated": {"bool": False},
    }


def test_what_is_unknown_is_not_published() -> None:
    """A card that says nothing of itself has only the attributes that every card has."""
    silent = Gpu(
        name=device_name("0000:17:00.0"),
        uuid=gpu().uuid,
        vendor="nvidia",
        product_name="X",
        memory_bytes=1 << 30,
        pci_address="0000:17:00.0",
    )
    (spec,) = desired(Inventory(gpus=(replace(silent, driver_version="unknown"),)))
    assert set(spec.get("devices", [])[0].get("attributes", {})) == {
        "vendor", "type", "mode", "uuid", "productName", "resource.kubernetes.io/pciBusID", "simulated",
    }  # fmt: skip


def test_whole_cards_need_no_gate() -> None:
    """The layout below has no field that a server can drop."""
    (spec,) = desired(inventory(), CardMode.WHOLE)
    (device,) = spec.get("devices", [])
    assert device.get("capacity") == {"memory": {"value": "80Gi"}, "cores": {"value": "100"}}
    assert "allowMultipleAllocations" not in device


def test_a_node_without_cards_publishes_an_empty_slice() -> None:
    """Nothing found is told, too."""
    (spec,) = desired(Inventory())
    assert (spec.get("devices"), spec["pool"]["resourceSliceCount"]) == ([], 1)


def test_many_cards_are_spread_over_slices() -> None:
    """No slice has more devices than the API server takes."""
    specs = desired(many(DEVICES_PER_SLICE + 1))
    assert [len(spec.get("devices", [])) for spec in specs] == [DEVICES_PER_SLICE, 1]
    assert {spec["pool"]["resourceSliceCount"] for spec in specs} == {2}


@pytest.mark.parametrize("address", ["17:00.0", "gpu0", "0000:17:00.9", ""])
def test_a_name_needs_a_pci_address(address: str) -> None:
    """Anything else is refused in words."""
    with pytest.raises(ValueError, match="PCI address"):
        device_name(address)


def test_names_are_equal_whoever_reads_the_address() -> None:
    """NVML prints eight digits of domain, sysfs four; a domain that needs more keeps them."""
    assert device_name("00000000:17:00.0") == device_name("0000:17:00.0") == "gpu-0000-17-00-0"
    assert device_name("00010000:17:00.0") == "gpu-00010000-17-00-0"


def test_a_first_publication_creates_generation_one() -> None:
    """There is nothing yet."""
    changes = diff(desired(inventory()), [])
    assert [spec["pool"]["generation"] for spec in changes.create] == [1]


def test_equal_content_needs_no_write() -> None:
    """Also where the API server spells a quantity otherwise, or added a field to the slice."""
    observed = applied([], diff(desired(inventory()), []))
    spec: Any = observed[0]["spec"]
    spec["devices"][0]["capacity"]["memory"]["value"] = f"{80 << 10}Mi"
    assert not diff(desired(inventory()), observed)


def test_a_card_of_which_nothing_holds_shares_is_offered_whole() -> None:
    """Beside it, the others are shared as ever."""
    node = inventory(2)
    (spec,) = desired(replace(node, gpus=(node.gpus[0], replace(node.gpus[1], holder=None))))
    shared, whole = spec["devices"]
    assert shared["allowMultipleAllocations"] is True
    assert "allowMultipleAllocations" not in whole
    assert set(whole["capacity"]) == {"memory"}


def test_cores_are_not_offered_where_the_kernel_holds_shares() -> None:
    """It knows device memory only: a request that names cores goes to another card."""
    node = inventory()
    held = replace(node.gpus[0], holder=Holder.KERNEL, memory_region="drm/0000:17:00.0/vram")
    (spec,) = desired(replace(node, gpus=(held,)))
    assert spec["devices"][0]["allowMultipleAllocations"] is True
    assert set(spec["devices"][0]["capacity"]) == {"memory", "slots"}


def test_one_changed_slice_is_replaced_in_place() -> None:
    """The pool never becomes incomplete: same generation, same name."""
    observed = applied([], diff(desired(inventory()), []))
    changes = diff(desired(inventory(), slots=20), observed)
    assert [item["spec"]["pool"]["generation"] for item in changes.update] == [1]
    assert not changes.create
    assert not changes.delete


def test_slices_of_an_older_generation_are_deleted() -> None:
    """A writer that died half-way leaves them."""
    (spec,) = desired(inventory())
    old: ResourceSlice = {"metadata": {"name": "old"}, "spec": spec | {"pool": spec["pool"] | {"generation": 1}}}
    new: ResourceSlice = {"metadata": {"name": "new"}, "spec": spec | {"pool": spec["pool"] | {"generation": 2}}}
    assert [item["metadata"]["name"] for item in diff([spec], [old, new]).delete] == ["old"]


@given(
    changes=st.lists(
        st.tuples(st.lists(st.sampled_from([*CardMode, None]), max_size=12), st.integers(1, 90), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_writes_converge_through_every_change_of_modes(
    changes: list[tuple[list[CardMode | None], int, bool]],
) -> None:
    """Counters and devices in many slices, cards that come, go and are cut otherwise, taints that come and go."""
    observed: list[ResourceSlice] = []
    for modes, parts, sick in changes:
        gpus = tuple(
            replace(gpu(), name=device_name(f"0000:{number:02x}:00.0"), mig=MIG) for number in range(len(modes))
        )
        settings = NodeSettings(
            cards={
                card.name: None if mode is None else CardSettings(mode=mode, fixed_shares=parts)
                for card, mode in zip(gpus, modes, strict=True)
            }
        )
        taints = {card.name: (taint("NoSchedule"),) for card in gpus[:1]} if sick else {}
        wanted = desired_slices(Inventory(gpus=gpus), node=NODE, settings=settings, taints=taints).slices
        observed = applied(observed, diff(wanted, observed))
        assert len({item["spec"]["pool"]["generation"] for item in observed}) == 1
        assert sorted(map(str, (bare(item["spec"]) for item in observed))) == sorted(map(str, wanted))
        assert not diff(wanted, observed)


@given(
    counts=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    slots=st.lists(st.integers(1, 3), min_size=4, max_size=4),
)
def test_writes_always_converge(counts: list[int], slots: list[int]) -> None:
    """Whatever was there, applying the writes gives what is desired, in one generation, and then nothing is left to do."""
    observed: list[ResourceSlice] = []
    for count, number in zip(counts, slots, strict=False):
        wanted = desired(many(count), slots=number)
        observed = applied(observed, diff(wanted, observed))
        assert len({item["spec"]["pool"]["generation"] for item in observed}) == 1
        assert sorted(map(str, (bare(item["spec"]) for item in observed))) == sorted(map(str, wanted))
        assert not diff(wanted, observed)


def test_settings_of_a_card_say_what_it_offers() -> None:
    """Scaled memory and cores, defaults of a request that names nothing, and cards that are left out."""
    chosen = CardSettings(
        memory_percent=150, cores_percent=50, default_memory_bytes=(4 << 30) + 1, default_cores_percent=60
    )
    settings = NodeSettings(cards={gpu(0).name: chosen, gpu(1).name: None})
    (spec,) = desired_slices(inventory(2), node=NODE, settings=settings).slices
    capacity = only(spec).get("capacity", {})
    assert capacity["memory"] == {
        "value": "120Gi",
        "requestPolicy": {"default": "4Gi", "validRange": {"min": "1Mi", "max": "120Gi", "step": "1Mi"}},
    }
    assert capacity["cores"] == {
        "value": "50",
        "requestPolicy": {"default": "50", "validRange": {"min": "0", "max": "50", "step": "1"}},
    }


def test_taints_are_published_with_the_device() -> None:
    """The server keeps them."""
    (spec,) = desired(inventory(), taints={gpu().name: (taint("NoSchedule"),)})
    assert only(spec).get("taints") == [taint("NoSchedule")]


@pytest.mark.parametrize(
    ("effect", "held", "published"),
    [("NoSchedule", False, False), ("NoExecute", True, True), ("None", False, True)],
)
def test_without_taints_a_sick_card_is_taken_back_unless_it_is_held(
    effect: Literal["None", "NoSchedule", "NoExecute"], *, held: bool, published: bool
) -> None:
    """A server that drops taints would give it to somebody; a device that is in use is never unpublished."""
    (spec,) = desired(
        inventory(),
        server=Server(closed=frozenset({"DRADeviceTaints"})),
        taints={gpu().name: (taint(effect),)},
        held=frozenset({gpu().name} if held else ()),
    )
    assert [device.get("taints") for device in spec.get("devices", [])] == [None] * published


@pytest.mark.parametrize("effect", ["NoSchedule", "None"])
def test_without_taints_a_sick_card_that_is_shared_has_no_slot_left(effect: Literal["None", "NoSchedule"]) -> None:
    """Who has a share keeps it; nobody gets another one.  A server that drops shares too has nothing to close."""
    closed = frozenset({"DRADeviceTaints"})
    sick: dict[DeviceName, tuple[DeviceTaint, ...]] = {gpu().name: (taint(effect),)}
    well = only(desired(inventory())[0])
    held = frozenset({gpu().name})
    (spec,) = desired(inventory(), server=Server(closed=closed), taints=sick, held=held)
    slots = (
        {"value": "0", "requestPolicy": {"default": "1"}}
        if effect == "NoSchedule"
        else well.get("capacity", {})["slots"]
    )
    assert only(spec) == well | {"capacity": well.get("capacity", {}) | {"slots": slots}}
    plain = Server(closed=closed | {"DRAConsumableCapacity"})
    (spec,) = desired(inventory(), server=plain, taints=sick, held=frozenset({DeviceName(f"{gpu().name}-share-1")}))
    assert all("slots" not in device.get("capacity", {}) for device in spec.get("devices", []))


def test_the_age_of_a_taint_is_the_servers() -> None:
    """It sets `timeAdded`: that is no difference, and it stays when the slice is written for another reason."""
    wanted = desired(inventory(), taints={gpu().name: (taint("NoSchedule"),)})
    observed = applied([], diff(wanted, []))
    aged = taint("NoSchedule") | {"timeAdded": "2026-01-01T00:00:00Z"}
    only(observed[0]["spec"])["taints"] = [aged]
    assert not diff(wanted, observed)
    more = desired(inventory(), slots=20, taints={gpu().name: (taint("NoSchedule"), taint("None"))})
    (update,) = diff(more, observed).update
    assert only(update["spec"]).get("taints") == [aged, taint("None")]


def left_out(mode: CardMode, *held: str) -> list[tuple[str, str]]:
    """Name and slots of the devices of a card that was of that mode and is left out while these are held."""
    card = Inventory(gpus=(gpu(mig=MIG),))
    shown = desired(card, mode)
    settings = NodeSettings(default=CardSettings(mode=mode), cards={gpu().name: None})
    names = frozenset(DeviceName(name) for name in held)
    found = desired_slices(card, node=NODE, settings=settings, held=names, observed=shown)
    devices = [device for spec in found.slices for device in spec.get("devices", [])]
    capacities = [(device["name"], device.get("capacity", {})) for device in devices]
    return [(name, capacity["slots"]["value"] if "slots" in capacity else "") for name, capacity in capacities]


def test_a_card_that_is_left_out_while_it_is_in_use_takes_nothing_new() -> None:
    """What may be shared has no slot left, other parts of the card are withdrawn; without users nothing of it is there."""
    name = gpu().name
    assert left_out(CardMode.SHARES, name) == [(name, "0")]
    assert left_out(CardMode.SHARES) == []
    assert left_out(CardMode.FIXED_SHARES, f"{name}-share-1") == [(f"{name}-share-1", "")]
    ((part, slots),) = left_out(CardMode.PARTITIONS, f"{name}-mig-1g-10gb-0")
    assert (part, slots) == (f"{name}-mig-1g-10gb-0", "0")
