"""From an inventory to the ResourceSlices that a node should have.

Pure; `core.slice_diff` compares with what the API server holds and `node.publisher` writes.  Fields behind a closed feature
gate are dropped without a word; the publisher finds out which gates are closed, and a card then gets the richest layout that the
others allow.  Invariant: the order of devices is the inventory's, so equal inventories give equal slices.
"""

import re
from collections.abc import Iterator, Mapping

from hami_dra.api.k8s import Attribute, Capacity, Device, DeviceTaint, ResourceSliceSpec
from hami_dra.api.names import (
    ATTRIBUTE_NUMA_NODE,
    ATTRIBUTE_PCI_BUS_ID,
    ATTRIBUTE_PCIE_ROOT,
    CAPACITY_CORES,
    CAPACITY_MEMORY,
    CAPACITY_SLOTS,
    DRIVER,
    GATE_CONSUMABLE_CAPACITY,
    GATE_TAINTS,
    POOL_SUFFIX,
)
from hami_dra.api.quantity import format_bytes
from hami_dra.core.ids import DeviceName, NodeName, PoolName
from hami_dra.core.inventory import Gpu, Holder, Inventory, published_memory
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings

__all__ = ["DEVICES_PER_SLICE", "Taints", "card_mode", "desired_slices", "pool_name"]

Taints = Mapping[DeviceName, tuple[DeviceTaint, ...]]
"""What is wrong with devices."""

DEVICES_PER_SLICE = 64
"""Limit of resource.k8s.io/v1 for slices in which a device has taints or counters; others may have 128."""
_MAX_STRING = 64
_MEMORY_STEP = "1Mi"


def pool_name(node: NodeName) -> PoolName:
    """`<node>/gpu`: counter caches of 1.34 to 1.36 collide on a bare node name."""
    return PoolName(f"{node}/{POOL_SUFFIX}")


def card_mode(gpu: Gpu, settings: CardSettings, closed: frozenset[str]) -> CardMode:
    """Into what the card is cut: what the settings wish, or whole where that cannot be."""
    if gpu.holder is not None and settings.mode is CardMode.SHARES and GATE_CONSUMABLE_CAPACITY not in closed:
        return CardMode.SHARES
    return CardMode.WHOLE


def desired_slices(
    inventory: Inventory,
    *,
    node: NodeName,
    settings: NodeSettings,
    closed: frozenset[str] = frozenset(),
    taints: Taints | None = None,
    held: frozenset[DeviceName] = frozenset(),
) -> list[ResourceSliceSpec]:
    """The slices of the node's pool, all of generation 0 (`core.slice_diff` sets it).

    A card of which nothing holds shares is offered whole.  A node without a GPU has one empty slice, which tells that the
    driver runs and found nothing.

    Args:
        inventory: what the node has.
        node: its name.
        settings: how its cards are to be offered.
        closed: feature gates whose fields the API server does not keep.
        taints: what is wrong with devices; one that is to get no new work is left out where the server keeps no taints.
        held: devices that are allocated and prepared here, which are never left out.
    """
    devices = []
    for gpu in inventory.gpus:
        chosen = settings.settings_for(gpu)
        if chosen is not None and not _in_mig_mode(gpu):
            device = _device(gpu, settings=chosen, mode=card_mode(gpu, chosen, closed))
            found = (taints or {}).get(gpu.name, ())
            if GATE_TAINTS not in closed:
                devices.append(device | {"taints": list(found)} if found else device)
            elif gpu.name in held or all(taint["effect"] == "None" for taint in found):
                devices.append(device)
    chunks = [devices[start : start + DEVICES_PER_SLICE] for start in range(0, len(devices), DEVICES_PER_SLICE)] or [[]]
    return [
        {
            "driver": DRIVER,
            "nodeName": node,
            "pool": {"name": pool_name(node), "generation": 0, "resourceSliceCount": len(chunks)},
            "devices": chunk,
        }
        for chunk in chunks
    ]


def _device(gpu: Gpu, *, settings: CardSettings, mode: CardMode) -> Device:
    memory_bytes = published_memory(gpu.memory_bytes * settings.memory_percent // 100)
    memory = format_bytes(memory_bytes)
    device: Device = {"name": gpu.name, "attributes": dict(_attributes(gpu, mode))}
    if mode is CardMode.WHOLE:
        return device | {"capacity": {CAPACITY_MEMORY: {"value": memory}}}
    asked = settings.default_memory_bytes
    default = memory if asked is None else format_bytes(min(published_memory(asked), memory_bytes))
    most_cores = min(settings.cores_percent, 100)
    shared: dict[str, Capacity] = {
        CAPACITY_MEMORY: {
            "value": memory,
            "requestPolicy": {
                "default": default,
                "validRange": {"min": _MEMORY_STEP, "max": memory, "step": _MEMORY_STEP},
            },
        },
        CAPACITY_CORES: {
            "value": str(settings.cores_percent),
            "requestPolicy": {
                "default": str(min(settings.default_cores_percent, most_cores)),
                "validRange": {"min": "0", "max": str(most_cores), "step": "1"},
            },
        },
        CAPACITY_SLOTS: {"value": str(settings.slots), "requestPolicy": {"default": "1", "validValues": ["1"]}},
    }
    if gpu.holder is Holder.KERNEL:
        del shared[CAPACITY_CORES]  # what nobody holds is not offered
    return device | {"allowMultipleAllocations": True, "capacity": shared}


def _attributes(gpu: Gpu, mode: CardMode) -> Iterator[tuple[str, Attribute]]:
    strings = {
        "vendor": gpu.vendor,
        "type": "gpu",
        "mode": str(mode),
        "uuid": gpu.uuid,
        "productName": gpu.product_name,
        "brand": gpu.brand,
        "architecture": gpu.architecture,
        ATTRIBUTE_PCI_BUS_ID: gpu.pci_address,
        ATTRIBUTE_PCIE_ROOT: gpu.pcie_root,
    }
    for name, text in strings.items():
        if text is not None:
            yield name, Attribute(string=text[:_MAX_STRING])
    versions = {
        "cudaComputeCapability": _version(gpu.compute_capability),
        "driverVersion": _semver(gpu.driver_version),
        "cudaDriverVersion": _version(gpu.cuda_driver_version),
    }
    for name, text in versions.items():
        if text is not None:
            yield name, Attribute(version=text)
    numbers = {"minor": gpu.minor, "index": gpu.index, ATTRIBUTE_NUMA_NODE: gpu.numa_node}
    for name, number in numbers.items():
        if number is not None:
            yield name, Attribute(int=number)
    yield "simulated", Attribute(bool=gpu.simulated)


def _version(numbers: tuple[int, int] | None) -> str | None:
    return None if numbers is None else f"{numbers[0]}.{numbers[1]}.0"


def _semver(text: str | None) -> str | None:
    """`570.124.6` for `570.124.06`: semver 2.0, which the API server demands, has no leading zeros."""
    parts = re.findall(r"[0-9]+", text or "")[:3]
    return ".".join(str(int(part)) for part in [*parts, "0", "0"][:3]) if parts else None


def _in_mig_mode(gpu: Gpu) -> bool:
    """Whether the card cannot be used as one device now."""
    return gpu.mig is not None and gpu.mig.enabled
