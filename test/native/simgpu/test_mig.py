"""MIG through NVML: the mode, GPU instances, compute instances and MIG devices."""

from collections.abc import Callable, Iterator
from typing import Any

import pynvml
import pytest
from native.simgpu.node import MIB, Node

from native.simgpu.nvml import Nvml, nvml_session, placement, placements, profiles

ENABLE, DISABLE = 1, 0
INVALID = pynvml.NVML_ERROR_INVALID_ARGUMENT
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
NO_PERMISSION = pynvml.NVML_ERROR_NO_PERMISSION
NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND
IN_USE = pynvml.NVML_ERROR_IN_USE
NO_ROOM = pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES

GEOMETRY = {
    "A30": {"1g.6gb": (14, 4, 14), "1g.6gb+me": (21, 1, 14), "2g.12gb": (5, 2, 28), "4g.24gb": (0, 1, 56)},
    "A100-40": {"1g.5gb": (19, 7, 14), "1g.10gb": (15, 4, 14), "3g.20gb": (9, 2, 42), "7g.40gb": (0, 1, 98)},
    "A100": {"1g.10gb": (19, 7, 14), "2g.20gb": (14, 3, 28), "4g.40gb": (5, 1, 56), "7g.80gb": (0, 1, 98)},
    "H100": {"1g.10gb+me": (20, 1, 16), "1g.20gb": (15, 4, 26), "3g.40gb": (9, 2, 60), "7g.80gb": (0, 1, 132)},
    "H200": {"1g.18gb": (19, 7, 16), "2g.35gb": (14, 3, 32), "7g.141gb": (0, 1, 132)},
    "B200": {"1g.23gb": (19, 7, 18), "4g.90gb": (5, 1, 72), "7g.180gb": (0, 1, 148)},
}


def whole(nvml: Nvml, instance: Any, size: int) -> Any:
    """Make a compute instance of `size` slices."""
    return nvml.call("GpuInstanceCreateComputeInstance", instance, {1: 0, 2: 1, 3: 2, 4: 3, 7: 4}[size])


def instance_ids(nvml: Nvml, card: Any) -> set[int]:
    """The ids of a card's GPU instances, whatever their profiles."""
    found = set()
    for profile in profiles(nvml, card).values():
        for handle in nvml.listed("DeviceGetGpuInstances", card, profile["id"], kind="c_nvmlGpuInstance_t"):
            found.add(nvml.call("GpuInstanceGetInfo", handle)["id"])
    return found


@pytest.fixture
def nvml(node: Node) -> Iterator[Nvml]:
    """A session on the node with two A100 cards."""
    with nvml_session(node) as session:
        yield session


@pytest.fixture
def card(nvml: Nvml) -> Any:
    """The first A100 card, in MIG mode."""
    handle = nvml.card()
    assert nvml.call("DeviceSetMigMode", handle, ENABLE) == 0
    return handle


@pytest.mark.parametrize("model", GEOMETRY)
def test_every_model_has_its_profiles(make_node: Callable[..., Node], model: str) -> None:
    """Ids, instance counts and processors are those of NVIDIA's user guide; all instances of a profile fit the card at once."""
    with nvml_session(make_node("--model", model)) as nvml:
        card = nvml.card()
        total_mib = nvml.call("DeviceGetMemoryInfo", card)["total"] // MIB
        found = profiles(nvml, card)
        seen = {name: (row["id"], row["instanceCount"], row["multiprocessorCount"]) for name, row in found.items()}
        assert {name: seen[name] for name in GEOMETRY[model]} == GEOMETRY[model]
        for row in found.values():
            assert row["memorySizeMB"] * row["instanceCount"] <= total_mib
            assert len(placements(nvml, card, row["id"])) >= row["instanceCount"]
            assert nvml.call("DeviceGetGpuInstanceProfileInfoById", card, row["id"]) == row


def test_a_card_without_mig_says_so(make_node: Callable[..., Node]) -> None:
    """On a T4 everything about MIG is NOT_SUPPORTED, and it has room for no MIG device."""
    with nvml_session(make_node("--model", "T4")) as nvml:
        card = nvml.card()
        assert nvml.error("DeviceGetMigMode", card) == NOT_SUPPORTED
        assert nvml.error("DeviceSetMigMode", card, ENABLE) == NOT_SUPPORTED
        assert nvml.error("DeviceGetGpuInstanceProfileInfo", card, 0) == NOT_SUPPORTED
        assert nvml.call("DeviceGetMaxMigDeviceCount", card) == 0


def test_the_mode_of_an_a100_waits_for_the_card_to_be_idle(node: Node, nvml: Nvml) -> None:
    """While a process uses the card the change is pending and its activation IN_USE; set again on the idle card it holds."""
    card = nvml.card()
    with node.holding(MIB):
        assert nvml.call("DeviceSetMigMode", card, ENABLE) == IN_USE
        assert nvml.call("DeviceGetMigMode", card) == [DISABLE, ENABLE]
    assert nvml.call("DeviceSetMigMode", card, ENABLE) == 0
    assert nvml.call("DeviceGetMigMode", card) == [ENABLE, ENABLE]
    assert nvml.call("DeviceGetMaxMigDeviceCount", card) == 7
    assert nvml.call("DeviceGetMigMode", nvml.card(1)) == [DISABLE, DISABLE]


def test_a_pending_mode_comes_with_a_reset(node: Node, nvml: Nvml) -> None:
    """What was refused on the busy A100 holds after `simctl mig reset`, which an A100 in use refuses."""
    card = nvml.card()
    with node.holding(MIB):
        nvml.call("DeviceSetMigMode", card, ENABLE)
        assert "in use" in node.simctl("mig", "reset", "--root", node.root).err
    assert node.simctl("mig", "reset", "--root", node.root).status == 0
    assert nvml.call("DeviceGetMigMode", card) == [ENABLE, ENABLE]


def test_the_mode_of_an_h100_needs_no_reset(make_node: Callable[..., Node]) -> None:
    """From Hopper on a change takes effect at once or not at all."""
    node = make_node("--model", "H100")
    with nvml_session(node) as nvml:
        card = nvml.card()
        with node.holding(MIB):
            assert nvml.call("DeviceSetMigMode", card, ENABLE) == IN_USE
            assert nvml.call("DeviceGetMigMode", card) == [DISABLE, DISABLE]
        assert nvml.call("DeviceSetMigMode", card, ENABLE) == 0
        assert nvml.call("DeviceGetMigMode", card) == [ENABLE, ENABLE]


def test_a_card_with_instances_stays_in_mig_mode(nvml: Nvml, card: Any) -> None:
    """Disabling is IN_USE until the last GPU instance is gone."""
    instance = nvml.call("DeviceCreateGpuInstance", card, 19)
    assert nvml.call("DeviceSetMigMode", card, DISABLE) == IN_USE
    nvml.call("GpuInstanceDestroy", instance)
    assert nvml.call("DeviceSetMigMode", card, DISABLE) == 0


def test_what_needs_the_mode_is_refused_without_it(nvml: Nvml) -> None:
    """Without MIG mode nothing can be created, listed or counted; profiles and placements are told all the same."""
    card = nvml.card()
    assert nvml.error("DeviceCreateGpuInstance", card, 19) == NOT_SUPPORTED
    assert nvml.error("DeviceGetGpuInstanceById", card, 7) == NOT_SUPPORTED
    assert nvml.error("DeviceGetGpuInstanceRemainingCapacity", card, 19) == NOT_SUPPORTED
    assert nvml.error("DeviceGetMigDeviceHandleByIndex", card, 0) == NOT_SUPPORTED
    assert nvml.call("DeviceGetMaxMigDeviceCount", card) == 0
    assert placements(nvml, card, 14) == [(0, 2), (2, 2), (4, 2)]


def test_a_card_is_filled_and_refuses_more(nvml: Nvml, card: Any) -> None:
    """Seven instances of one slice fit, with ids of their own; the eighth, and anything larger, has no room."""
    made = [nvml.call("DeviceCreateGpuInstance", card, 19) for _ in range(7)]
    infos = [nvml.call("GpuInstanceGetInfo", instance) for instance in made]
    assert sorted(info["placement"]["start"] for info in infos) == list(range(7))
    assert sorted(info["id"] for info in infos) == list(range(7, 14))
    assert nvml.error("DeviceCreateGpuInstance", card, 19) == NO_ROOM
    assert nvml.error("DeviceCreateGpuInstance", card, 14) == NO_ROOM
    assert instance_ids(nvml, card) == set(range(7, 14))


def test_placements_are_kept_and_never_shared(nvml: Nvml, card: Any) -> None:
    """An instance lies where it was asked for; an overlapping one has no room, an impossible placement is no argument."""
    instance = nvml.call("DeviceCreateGpuInstanceWithPlacement", card, 9, placement(4, 4))
    assert nvml.call("GpuInstanceGetInfo", instance)["placement"] == {"start": 4, "size": 4}
    assert nvml.error("DeviceCreateGpuInstanceWithPlacement", card, 14, placement(4, 2)) == NO_ROOM
    assert nvml.error("DeviceCreateGpuInstanceWithPlacement", card, 9, placement(2, 4)) == INVALID
    assert nvml.error("DeviceCreateGpuInstanceWithPlacement", card, 14, placement(2, 1)) == INVALID
    assert nvml.error("DeviceCreateGpuInstance", card, 77) == INVALID
    assert nvml.call("DeviceGetGpuInstanceRemainingCapacity", card, 9) == 1
    assert nvml.call("DeviceGetGpuInstanceRemainingCapacity", card, 0) == 0
    assert nvml.error("DeviceGetGpuInstanceById", card, 14) == NOT_FOUND


def test_small_instances_leave_room_for_large_ones(nvml: Nvml, card: Any) -> None:
    """Without a placement an instance goes where it hurts least: 1g, 2g and 4g fit one card, made in that order."""
    made = [nvml.call("DeviceCreateGpuInstance", card, profile) for profile in (19, 14, 5)]
    starts = [nvml.call("GpuInstanceGetInfo", instance)["placement"]["start"] for instance in made]
    assert starts == [6, 4, 0]


def test_only_one_instance_has_the_media_engines(nvml: Nvml, card: Any) -> None:
    """The profile with media extensions exists once, beside six plain ones."""
    nvml.call("DeviceCreateGpuInstance", card, 20)
    assert nvml.error("DeviceCreateGpuInstance", card, 20) == NO_ROOM
    assert nvml.call("DeviceGetGpuInstanceRemainingCapacity", card, 19) == 6


def test_compute_instances_share_a_gpu_instance(nvml: Nvml, card: Any) -> None:
    """A 3g instance takes 1c and 2c, which share its engines; then it is full, and cannot be destroyed."""
    instance = nvml.call("DeviceCreateGpuInstance", card, 9)
    one = nvml.call("GpuInstanceCreateComputeInstance", instance, 0)
    info = nvml.call("ComputeInstanceGetInfo", one)
    assert (info["id"], info["profileId"], info["placement"]) == (0, 0, {"start": 0, "size": 1})
    assert nvml.call("GpuInstanceGetComputeInstanceRemainingCapacity", instance, 0) == 2
    kind = "c_nvmlComputeInstancePlacement_t"
    spots = nvml.listed("GpuInstanceGetComputeInstancePossiblePlacements", instance, 0, kind=kind)
    assert [spot["start"] for spot in spots] == [0, 1, 2]
    assert nvml.error("GpuInstanceCreateComputeInstance", instance, 2) == NO_ROOM
    assert nvml.error("GpuInstanceCreateComputeInstance", instance, 4) == NOT_SUPPORTED
    asked = {"type": kind, "value": [2, 1]}
    nvml.call("GpuInstanceCreateComputeInstanceWithPlacement", instance, 0, asked)
    row = nvml.call("GpuInstanceGetComputeInstanceProfileInfo", instance, 1, 0)
    assert (row["name"], row["multiprocessorCount"], row["sharedDecoderCount"]) == ("MIG 2c.3g.40gb", 28, 2)
    assert nvml.error("GpuInstanceDestroy", instance) == IN_USE
    for handle in nvml.listed("GpuInstanceGetComputeInstances", instance, 0, kind="c_nvmlComputeInstance_t"):
        nvml.call("ComputeInstanceDestroy", handle)
    assert nvml.error("ComputeInstanceGetInfo", one) == INVALID
    nvml.call("GpuInstanceDestroy", instance)
    assert nvml.error("GpuInstanceGetInfo", instance) == INVALID


def test_mig_devices_are_devices(nvml: Nvml, card: Any) -> None:
    """A MIG device has a name, a UUID, memory and attributes of its own, leads to its card, and ends with its instance."""
    instance = nvml.call("DeviceCreateGpuInstance", card, 14)
    compute = whole(nvml, instance, 2)
    device = nvml.call("DeviceGetMigDeviceHandleByIndex", card, 0)
    assert nvml.error("DeviceGetMigDeviceHandleByIndex", card, 1) == NOT_FOUND
    assert nvml.error("DeviceGetMigDeviceHandleByIndex", card, 7) == INVALID
    assert (nvml.call("DeviceIsMigDeviceHandle", device), nvml.call("DeviceIsMigDeviceHandle", card)) == (1, 0)
    assert nvml.call("DeviceGetName", device) == "NVIDIA A100-SXM4-80GB MIG 2g.20gb"
    uuid = nvml.call("DeviceGetUUID", device)
    assert nvml.call("DeviceGetUUID", nvml.call("DeviceGetHandleByUUID", uuid)) == uuid
    parent = nvml.call("DeviceGetDeviceHandleFromMigDeviceHandle", device)
    assert nvml.call("DeviceGetUUID", parent) == nvml.call("DeviceGetUUID", card)
    assert nvml.call("DeviceGetMemoryInfo", device)["total"] == 19968 * MIB
    attributes = nvml.call("DeviceGetAttributes_v2", device)
    assert (attributes["multiprocessorCount"], attributes["gpuInstanceSliceCount"]) == (28, 2)
    assert attributes["memorySizeMB"] == 19968
    assert (nvml.call("DeviceGetGpuInstanceId", device), nvml.call("DeviceGetComputeInstanceId", device)) == (5, 0)
    assert nvml.error("DeviceGetGpuInstanceId", card) == NOT_SUPPORTED
    assert nvml.error("DeviceGetFanSpeed", device) == NOT_SUPPORTED
    nvml.call("ComputeInstanceDestroy", compute)
    assert nvml.error("DeviceGetName", device) == INVALID
    assert nvml.error("DeviceGetHandleByUUID", uuid) == NOT_FOUND
    whole(nvml, instance, 2)
    assert nvml.call("DeviceGetUUID", nvml.call("DeviceGetMigDeviceHandleByIndex", card, 0)) == uuid


def test_instances_outlive_the_process_that_made_them(node: Node, nvml: Nvml, card: Any) -> None:
    """They are the card's: simctl and other sessions see them, and can destroy them."""
    instance = nvml.call("DeviceCreateGpuInstance", card, 9)
    whole(nvml, instance, 3)
    uuid = nvml.call("DeviceGetUUID", nvml.call("DeviceGetMigDeviceHandleByIndex", card, 0))
    with nvml_session(node) as other:
        assert instance_ids(other, other.card()) == instance_ids(nvml, card)
    (listed,) = node.cards()[0]["mig"]["instances"]
    assert (listed["profile"], listed["compute"][0]["uuid"]) == ("3g.40gb", uuid)
    assert f"(UUID: {uuid})" in node.run([node.root / "usr/bin/nvidia-smi", "-L"]).out
    assert node.simctl("mig", "destroy", "--root", node.root, "--instance", str(listed["id"])).status == 0
    assert nvml.error("GpuInstanceGetInfo", instance) == INVALID


def test_simctl_creates_what_it_is_told(make_node: Callable[..., Node]) -> None:
    """`simctl create --mig` makes a card in parts, once; `simctl mig` adds to them and says why it cannot."""
    arguments = ("--model", "A100", "--mig", "3g.40gb,2g.20gb")
    node = make_node(*arguments)
    assert node.create(*arguments).status == 0
    instances = node.cards()[0]["mig"]["instances"]
    assert [instance["profile"] for instance in instances] == ["3g.40gb", "2g.20gb"]
    assert node.simctl("mig", "create", "--root", node.root, "--profile", "1g.10gb").status == 0
    full = node.simctl("mig", "create", "--root", node.root, "--profile", "7g.80gb")
    assert "no free placement" in full.err
    assert "no such profile" in node.simctl("mig", "create", "--root", node.root, "--profile", "9g").err
    assert node.simctl("mig", "destroy", "--root", node.root).status == 0
    assert node.simctl("mig", "disable", "--root", node.root).status == 0
    assert node.cards()[0]["mig"] == {"enabled": False, "pending": False, "instances": []}


def test_only_the_privileged_change_mig(node: Node) -> None:
    """Without the capability file for configuration NVML refuses changes; devices without capability are not seen."""
    assert node.simctl("mig", "enable", "--root", node.root).status == 0
    assert node.simctl("mig", "create", "--root", node.root, "--profile", "2g.20gb,1g.10gb").status == 0
    caps = node.root / "dev" / "nvidia-caps"
    entry = node.root / "proc/driver/nvidia/capabilities/gpu0/mig/gi5/access"
    assert entry.read_text() == "DeviceFileMinor: 48\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
    for minor in (1, 2):
        (caps / f"nvidia-cap{minor}").unlink()
    with nvml_session(node) as nvml:
        card = nvml.card()
        assert nvml.error("DeviceSetMigMode", card, DISABLE) == NO_PERMISSION
        assert nvml.error("DeviceCreateGpuInstance", card, 19) == NO_PERMISSION
        assert nvml.error("DeviceGetMigDeviceHandleByIndex", card, 1) == 0
        (caps / "nvidia-cap49").unlink()
        assert nvml.error("DeviceGetMigDeviceHandleByIndex", card, 1) == NOT_FOUND
        device = nvml.call("DeviceGetMigDeviceHandleByIndex", card, 0)
        assert nvml.call("DeviceGetName", device).endswith("1g.10gb")
    (seen,) = node.client("cuda_discovery").json["devices"]
    assert seen["name"].endswith("1g.10gb")
