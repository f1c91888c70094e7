"""From an inventory to the ResourceSlices that a node should have.

Pure; `core.slice_diff` compares with what the API server holds and `node.publisher` writes.  A `Layout` says how much of the
resource API the server keeps: fields behind a closed feature gate are dropped without a word, so the publisher reads back and
comes down a layout when it must.  Invariant: the order of devices is the inventory's, so equal inventories give equal slices.
"""

import re
from collections.abc import Iterator
from enum import StrEnum

from hami_dra.api.k8s import Attribute, Capacity, Device, ResourceSliceSpec
from hami_dra.api.names import (
    ATTRIBUTE_NUMA_NODE,
    ATTRIBUTE_PCI_BUS_ID,
    ATTRIBUTE_PCIE_ROOT,
    CAPACITY_CORES,
    CAPACITY_MEMORY,
    CAPACITY_SLOTS,
    DRIVER,
    POOL_SUFFIX,
)
from hami_dra.api.quantity import format_bytes
from hami_dra.core.ids import NodeName, PoolName
from hami_dra.core.inventory import Gpu, Inventory, published_memory

__all__ = ["DEVICES_PER_SLICE", "Layout", "desired_slices", "pool_name"]

DEVICES_PER_SLICE = 128
"""Limit of resource.k8s.io/v1 for devices without taints and counters."""
_MAX_STRING = 64
_MEMORY_STEP = "1Mi"


class Layout(StrEnum):
    """How devices are published, from the richest down."""

    SHARES = "shares"
    """One device a GPU that many claims can share (DRAConsumableCapacity, on by default from 1.36)."""
    WHOLE = "whole"
    """One device a GPU that one claim takes whole: what every server keeps."""


def pool_name(node: NodeName) -> PoolName:
    """`<node>/gpu`: counter caches of 1.34 to 1.36 collide on a bare node name."""
    return PoolName(f"{node}/{POOL_SUFFIX}")


def desired_slices(inventory: Inventory, *, node: NodeName, layout: Layout, slots: int) -> list[ResourceSliceSpec]:
    """The slices of the node's pool, all of generation 0 (`core.slice_diff` sets it).

    A card of which nothing holds shares is offered whole.  A node without a GPU has one empty slice, which tells that the
    driver runs and found nothing.
    """
    devices = [
        _device(gpu, layout=layout if gpu.holder is not None else Layout.WHOLE, slots=slots) for gpu in inventory.gpus
    ]
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


def _device(gpu: Gpu, *, layout: Layout, slots: int) -> Device:
    memory = format_bytes(published_memory(gpu.memory_bytes))
    device: Device = {"name": gpu.name, "attributes": dict(_attributes(gpu, layout))}
    if layout is Layout.WHOLE:
        return device | {"capacity": {CAPACITY_MEMORY: {"value": memory}}}
    shared: dict[str, Capacity] = {
        CAPACITY_MEMORY: {
            "value": memory,
            "requestPolicy": {
                "default": memory,
                "validRange": {"min": _MEMORY_STEP, "max": memory, "step": _MEMORY_STEP},
            },
        },
        CAPACITY_CORES: {
            "value": "100",
            "requestPolicy": {"default": "0", "validRange": {"min": "0", "max": "100", "step": "1"}},
        },
        CAPACITY_SLOTS: {"value": str(slots), "requestPolicy": {"default": "1", "validValues": ["1"]}},
    }
    return device | {"allowMultipleAllocations": True, "capacity": shared}


def _attributes(gpu: Gpu, layout: Layout) -> Iterator[tuple[str, Attribute]]:
    strings = {
        "vendor": gpu.vendor,
        "type": "gpu",
        "mode": str(layout),
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
