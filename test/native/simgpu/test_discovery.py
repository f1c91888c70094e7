"""CUDA, NVML and simctl describe the same cards, and a process sees those that it may use."""

from collections.abc import Callable

import pytest
from native.simgpu.node import Node

MODELS = {
    "T4": ("Tesla T4", 15360, (7, 5), 40),
    "L4": ("NVIDIA L4", 23034, (8, 9), 58),
    "A10": ("NVIDIA A10", 23028, (8, 6), 72),
    "A100": ("NVIDIA A100-SXM4-80GB", 81920, (8, 0), 108),
    "H100": ("NVIDIA H100 80GB HBM3", 81559, (9, 0), 132),
    "H200": ("NVIDIA H200", 143771, (9, 0), 132),
    "B200": ("NVIDIA B200", 183359, (10, 0), 148),
}
COMMON = ("name", "uuid", "pci", "memory_bytes")


def test_cuda_nvml_and_simctl_say_the_same_of_every_model(make_node: Callable[..., Node]) -> None:
    """Name, UUID, PCI address, memory and compute capability of each model are one truth, seen three ways."""
    node = make_node(*(word for model in MODELS for word in ("--model", model)))
    ordered = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    cuda = node.client("cuda_discovery", env=ordered).json["devices"]
    nvml = node.client("nvml_discovery").json["cards"]
    listed = node.cards()
    assert [card["model"] for card in listed] == list(MODELS)
    for card, device, entry in zip(listed, cuda, nvml, strict=True):
        name, mib, capability, sms = MODELS[card["model"]]
        assert [card[key] for key in COMMON] == [device[key] for key in COMMON] == [entry[key] for key in COMMON]
        assert (card["name"], card["memory_bytes"]) == (name, mib << 20)
        assert tuple(device["capability"]) == tuple(entry["capability"]) == capability
        assert device["sm_count"] == sms
        assert (entry["minor"], entry["numa_node"]) == (card["minor"], card["numa_node"])


def test_versions_follow_the_driver(make_node: Callable[..., Node]) -> None:
    """Driver 570 speaks CUDA 12.8, to CUDA and to NVML alike."""
    node = make_node("--model", "T4", "--driver-version", "570.00.01")
    nvml = node.client("nvml_discovery").json
    assert node.client("cuda_discovery").json["version"] == nvml["cuda"] == 12080
    assert nvml["driver"] == "570.00.01"


@pytest.mark.parametrize(
    ("driver", "name", "version", "error"),
    [
        ("570.00.01", "cuMemAllocAsync", 12000, 0),
        ("570.00.01", "cuMemAllocAsync", 11010, 500),
        ("525.60.13", "cuKernelGetName", 13000, 500),
        ("570.00.01", "cuMemAlloc_v2", 12000, 500),
        ("570.00.01", "cuMemAlloc", 3020, 0),
    ],
)
def test_entry_points_depend_on_both_versions(
    make_node: Callable[..., Node], driver: str, name: str, version: int, error: int
) -> None:
    """CuGetProcAddress finds a function once the driver has it and the caller's CUDA knows it, by its plain name."""
    node = make_node("--model", "T4", "--driver-version", driver)
    assert node.client("proc_address", name, str(version)).json == error


def test_a_card_is_visible_while_its_device_file_is(node: Node) -> None:
    """Without /dev/nvidia0 both libraries see the second card alone, as their first."""
    (node.root / "dev" / "nvidia0").unlink()
    left = node.cards()[1]["uuid"]
    assert [device["uuid"] for device in node.client("cuda_discovery").json["devices"]] == [left]
    assert [card["uuid"] for card in node.client("nvml_discovery").json["cards"]] == [left]
    (node.root / "dev" / "nvidia1").unlink()
    assert node.client("cuda_discovery").json == {"error": 100, "devices": []}
    assert node.client("nvml_discovery").json["cards"] == []


def test_cuda_needs_unified_memory_s_device_and_nvml_does_not(node: Node) -> None:
    """Without /dev/nvidia-uvm cuInit fails, as with the real driver, and NVML works."""
    (node.root / "dev" / "nvidia-uvm").unlink()
    assert node.client("cuda_discovery").json["error"] == 999
    assert len(node.client("nvml_discovery").json["cards"]) == 2


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("1", [1]),
        ("2,0", [2, 0]),
        ("{1}", [1]),
        ("{2:10},{0}", [2, 0]),
        ("0, 1 ,2", [0, 1, 2]),
        ("0,9,1", [0]),
        ("1,-1,0", [1]),
        ("-1", []),
        ("", []),
        ("0,0", []),
        ("GPU-", []),
        ("MIG-nonsense", []),
    ],
)
def test_cuda_visible_devices(make_node: Callable[..., Node], value: str, seen: list[int]) -> None:
    """Indices and UUIDs, also abbreviated, choose and order CUDA's devices until the first that names none; NVML ignores it."""
    uuids = [f"GPU-{digit * 8}-0000-4000-8000-000000000000" for digit in "abc"]
    node = make_node("--model", "A100", "--count", "3", "--uuid", ",".join(uuids))
    chosen = value.format(uuids[0], uuids[1], uuids[2][:10]) if "{2:10}" not in value else f"{uuids[2][:10]},{uuids[0]}"
    environment = {"CUDA_VISIBLE_DEVICES": chosen}
    found = node.client("cuda_discovery", env=environment).json
    assert [device["uuid"] for device in found["devices"]] == [uuids[i] for i in seen]
    assert found["error"] == (0 if seen else 100)
    assert len(node.client("nvml_discovery", env=environment).json["cards"]) == 3


def test_the_fastest_card_comes_first_unless_told_otherwise(make_node: Callable[..., Node]) -> None:
    """CUDA puts the H100 before the T4 that has the lower PCI address, and follows PCI when CUDA_DEVICE_ORDER says so."""
    node = make_node("--model", "T4", "--model", "H100")
    names = [device["name"] for device in node.client("cuda_discovery").json["devices"]]
    assert names == ["NVIDIA H100 80GB HBM3", "Tesla T4"]
    ordered = node.client("cuda_discovery", env={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}).json["devices"]
    assert [device["name"] for device in ordered] == names[::-1]


def test_nvml_lists_cards_by_their_pci_addresses(make_node: Callable[..., Node]) -> None:
    """NVML's index follows the bus, whatever the order in which the cards were made."""
    node = make_node("--model", "A100", "--count", "2", "--pci", "0000:e3:00.0,0000:17:00.0", "--numa", "1,0")
    cards = node.client("nvml_discovery").json["cards"]
    assert [(card["pci"], card["numa_node"], card["minor"]) for card in cards] == [
        ("0000:17:00.0", 0, 1),
        ("0000:e3:00.0", 1, 0),
    ]
