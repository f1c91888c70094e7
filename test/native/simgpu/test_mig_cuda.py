"""What CUDA makes of MIG devices: which one a process sees, and whose memory it uses."""

from collections.abc import Callable
from typing import Any

import pynvml
import pytest
from native.simgpu.node import GIB, MIB, Node

from native.simgpu.nvml import nvml_session

NO_DEVICE = 100
DISABLE = 0
IN_USE = pynvml.NVML_ERROR_IN_USE


@pytest.fixture
def cut(make_node: Callable[..., Node]) -> Node:
    """A node with an A100 in three parts and one that is whole."""
    node = make_node("--model", "A100", "--count", "2")
    assert node.simctl("mig", "enable", "--root", node.root).status == 0
    assert node.simctl("mig", "create", "--root", node.root, "--profile", "1g.10gb,2g.20gb,3g.40gb").status == 0
    return node


def devices(node: Node) -> dict[str, dict[str, Any]]:
    """The instances of the first card by their profiles."""
    return {instance["profile"]: instance for instance in node.cards()[0]["mig"]["instances"]}


def test_cuda_sees_one_mig_device_and_nothing_else(cut: Node) -> None:
    """The first MIG device stands for the node; its memory and processors are its own."""
    (seen,) = cut.client("cuda_discovery").json["devices"]
    (first,) = [instance for instance in devices(cut).values() if instance["id"] in {1, 2}]
    assert seen["memory_bytes"] == first["memory_bytes"]
    assert seen["name"] == "NVIDIA A100-SXM4-80GB MIG 3g.40gb"
    assert seen["sm_count"] == 42
    assert seen["uuid"] == first["compute"][0]["uuid"]


@pytest.mark.parametrize(
    ("form", "profile"),
    [
        ("{uuid}", "1g.10gb"),
        ("{uuid}", "2g.20gb"),
        ("{short}", "2g.20gb"),
        ("MIG-{gpu}/{gi}/0", "1g.10gb"),
        ("1,{uuid}", "1g.10gb"),
        ("0", "3g.40gb"),
        ("{gpu}", "3g.40gb"),
        ("MIG-{gpu}/{gi}/1", None),
        ("MIG-00", None),
    ],
)
def test_cuda_visible_devices_names_mig_devices(cut: Node, form: str, profile: str | None) -> None:
    """By UUID, also abbreviated, by GPU, GPU instance and compute instance, or by the card, which means its first."""
    named = devices(cut)[profile or "1g.10gb"]
    uuid = named["compute"][0]["uuid"]
    value = form.format(uuid=uuid, short=uuid[:12], gpu=cut.cards()[0]["uuid"], gi=named["id"])
    seen = cut.client("cuda_discovery", env={"CUDA_VISIBLE_DEVICES": value}).json
    assert [device["uuid"] for device in seen["devices"]] == ([uuid] if profile else [])
    assert seen["error"] == (0 if profile else NO_DEVICE)


def test_the_whole_card_beside_can_still_be_chosen(cut: Node) -> None:
    """A card without MIG is used when it alone is named; one in MIG mode without devices is no device."""
    whole_card = cut.cards()[1]["uuid"]
    (seen,) = cut.client("cuda_discovery", env={"CUDA_VISIBLE_DEVICES": whole_card}).json["devices"]
    assert seen["uuid"] == whole_card
    assert cut.simctl("mig", "destroy", "--root", cut.root).status == 0
    assert cut.client("cuda_discovery", env={"CUDA_VISIBLE_DEVICES": "0"}).json["error"] == NO_DEVICE
    assert [device["uuid"] for device in cut.client("cuda_discovery").json["devices"]] == [whole_card]


def test_memory_is_the_instance_s_to_the_last_byte(cut: Node) -> None:
    """Processes of one GPU instance share its bytes exactly; those of another do not feel it; the card counts all."""
    small = devices(cut)["1g.10gb"]
    env = ("env", f"CUDA_VISIBLE_DEVICES={small['compute'][0]['uuid']}")
    with cut.holding(small["memory_bytes"] - MIB, prefix=env), cut.holding(MIB, prefix=env), cut.holding(GIB):
        assert devices(cut)["1g.10gb"]["used_bytes"] == small["memory_bytes"]
        assert devices(cut)["3g.40gb"]["used_bytes"] == GIB
        assert cut.used() == small["memory_bytes"] + GIB
        refused = cut.run([*env, str(cut.build / "exercise"), "hold", "1"])
        assert refused.status == 2
    assert cut.exercise("routes").status == 0
    assert cut.cards()[0]["used_bytes"] == 0


def test_processes_are_listed_by_instance(cut: Node) -> None:
    """NVML's lists name the instances of each process, and a MIG device lists its own alone; such instances are IN_USE."""
    parts = devices(cut)
    env = ("env", f"CUDA_VISIBLE_DEVICES={parts['1g.10gb']['compute'][0]['uuid']}")
    with cut.holding(MIB, prefix=env) as small, cut.holding(GIB) as large, nvml_session(cut) as nvml:
        card = nvml.card()
        listed = {row["pid"]: row for row in nvml.call("DeviceGetComputeRunningProcesses", card)}
        assert listed[small.pid]["gpuInstanceId"] == parts["1g.10gb"]["id"]
        assert listed[large.pid]["gpuInstanceId"] == parts["3g.40gb"]["id"]
        assert {row["computeInstanceId"] for row in listed.values()} == {0}
        device = nvml.call("DeviceGetHandleByUUID", parts["1g.10gb"]["compute"][0]["uuid"])
        (own,) = nvml.call("DeviceGetComputeRunningProcesses", device)
        assert (own["pid"], own["usedGpuMemory"]) == (small.pid, MIB)
        assert nvml.call("DeviceGetMemoryInfo", device)["used"] == MIB
        instance = nvml.call("DeviceGetGpuInstanceById", card, parts["1g.10gb"]["id"])
        compute = nvml.call("GpuInstanceGetComputeInstanceById", instance, 0)
        assert nvml.error("ComputeInstanceDestroy", compute) == IN_USE
        assert nvml.call("DeviceSetMigMode", card, DISABLE) == IN_USE
        small.kill()
        small.wait()
        nvml.call("ComputeInstanceDestroy", compute)
        nvml.call("GpuInstanceDestroy", instance)
