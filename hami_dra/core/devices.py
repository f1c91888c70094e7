"""One card as the devices of a ResourceSlice, in a given layout.

Pure; into what a card is cut is for `core.layout`, how devices come into slices for `core.slices`.  How much each device offers
is said once, by `device_size`, to the scheduler here and to the driver's own check in `core.plan`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hami_dra.api.k8s import Attribute, Capacity, CounterSet, Device, RequestPolicy
from hami_dra.api.names import (
    ATTRIBUTE_MODE,
    ATTRIBUTE_NUMA_NODE,
    ATTRIBUTE_PCI_BUS_ID,
    ATTRIBUTE_PCIE_ROOT,
    CAPACITY_CORES,
    CAPACITY_MEMORY,
    CAPACITY_SLOTS,
)
from hami_dra.api.quantity import format_bytes
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, Holder, MigInstance, Partition, fixed_share_name, published_memory
from hami_dra.core.layout import Layout, is_as_found
from hami_dra.core.partitions import counter_set, placements, whole_card
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings

__all__ = ["CutCard", "Offers", "Size", "cut_card", "device_attributes", "device_size"]

_ALL = 100
_KINDS_OF_PARTITIONS = ("mig", "partition")
_MAX_STRING = 64
_MEMORY_STEP = "1Mi"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutCard:
    """What is published of one card."""

    devices: tuple[Device, ...]
    counters: CounterSet | None = None
    """What the devices consume; published in a slice of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a device offers."""

    memory_bytes: int
    cores_percent: int
    """0: none, because nothing could hold a share to them."""


def device_size(gpu: Gpu, memory_bytes: int, settings: CardSettings, *, parts: int = 1) -> Size:
    """What a device of the card with that much memory offers, scaled by the settings; `parts`: cut into so many equal ones."""
    return Size(
        memory_bytes=published_memory(memory_bytes * settings.memory_percent // _ALL // parts),
        cores_percent=settings.cores_percent // parts if gpu.holder is Holder.GUARD else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """How the cards of this node are offered now."""

    settings: NodeSettings = field(default_factory=NodeSettings)
    layouts: Mapping[DeviceName, Layout] = field(default_factory=dict)
    """Into what each card is cut; a card that is missing is cut as its settings say."""

    def parts(self, gpu: Gpu) -> int:
        """Into how many fixed shares the card is cut, or would be."""
        layout = self.layouts.get(gpu.name)
        return layout.parts if layout and layout.parts else self._settings(gpu).fixed_shares

    def size(self, gpu: Gpu, memory_bytes: int, *, parts: int = 1) -> Size:
        """What a device with that much memory offers on this card, or one of so many equal parts of it."""
        return device_size(gpu, memory_bytes, self._settings(gpu), parts=parts)

    def _settings(self, gpu: Gpu) -> CardSettings:
        return self.settings.settings_for(gpu) or CardSettings()


def cut_card(gpu: Gpu, *, settings: CardSettings, layout: Layout) -> CutCard:
    """The card's devices, those first that a claim without a wish should get."""
    if layout.mode is CardMode.PARTITIONS:
        return _partitions(gpu, settings, layout)
    if is_as_found(gpu):
        return CutCard(devices=tuple(_instance(gpu, each, settings, layout) for each in gpu.instances))
    if layout.mode is CardMode.FIXED_SHARES:
        size = device_size(gpu, gpu.memory_bytes, settings, parts=layout.parts)
        names = (fixed_share_name(gpu.name, index) for index in range(layout.parts))
        attributes = device_attributes(gpu, kind="share") | _mode(layout)
        return CutCard(devices=tuple(_device(name, attributes, size, settings, layout) for name in names))
    return CutCard(devices=(_whole(gpu, settings, layout),))


def _partitions(gpu: Gpu, settings: CardSettings, layout: Layout) -> CutCard:
    """Every place of every profile and, where the card can leave MIG mode, the card."""
    devices: list[Device] = []
    if gpu.mig is not None and gpu.mig.switchable:
        devices.append(_whole(gpu, settings, layout) | {"consumesCounters": [whole_card(gpu)]})
    for place in placements(gpu):
        attributes = device_attributes(gpu, partition=place.partition) | _mode(layout)
        size = device_size(gpu, place.profile.memory_bytes, settings)
        device = _device(place.partition.name, attributes, size, settings, layout)
        devices.append(device | {"consumesCounters": [place.consumption]})
    return CutCard(devices=tuple(devices), counters=counter_set(gpu))


def _instance(gpu: Gpu, instance: MigInstance, settings: CardSettings, layout: Layout) -> Device:
    """A MIG instance that somebody else made and keeps."""
    partition = Partition(gpu=gpu.name, profile=instance.profile, start=instance.start)
    attributes = device_attributes(gpu, partition=partition) | _mode(layout)
    attributes["uuid"] = Attribute(string=instance.uuid)
    return _device(partition.name, attributes, device_size(gpu, instance.memory_bytes, settings), settings, layout)


def _whole(gpu: Gpu, settings: CardSettings, layout: Layout) -> Device:
    size = device_size(gpu, gpu.memory_bytes, settings)
    return _device(gpu.name, device_attributes(gpu, kind="gpu") | _mode(layout), size, settings, layout)


def _device(
    name: DeviceName, attributes: dict[str, Attribute], size: Size, settings: CardSettings, layout: Layout
) -> Device:
    if settings.memory_percent > _ALL:
        attributes["oversubscribed"] = Attribute(bool=True)
    capacity: dict[str, Capacity] = {CAPACITY_MEMORY: {"value": format_bytes(size.memory_bytes)}}
    if size.cores_percent:
        capacity[CAPACITY_CORES] = {"value": str(size.cores_percent)}
    device: Device = {"name": name, "attributes": attributes, "capacity": capacity}
    if not layout.shared:
        return device
    capacity[CAPACITY_MEMORY]["requestPolicy"] = _memory_policy(size, settings)
    if size.cores_percent:
        capacity[CAPACITY_CORES]["requestPolicy"] = _cores_policy(size, settings)
    capacity[CAPACITY_SLOTS] = {
        "value": str(settings.slots),
        "requestPolicy": {"default": "1", "validValues": ["1"]},
    }
    return device | {"allowMultipleAllocations": True}


def _memory_policy(size: Size, settings: CardSettings) -> RequestPolicy:
    default = size.memory_bytes
    if settings.default_memory_bytes is not None:
        default = min(published_memory(settings.default_memory_bytes), default)
    most = format_bytes(size.memory_bytes)
    return {
        "default": format_bytes(default),
        "validRange": {"min": _MEMORY_STEP, "max": most, "step": _MEMORY_STEP},
    }


def _cores_policy(size: Size, settings: CardSettings) -> RequestPolicy:
    most = min(size.cores_percent, _ALL)
    return {
        "default": str(min(settings.default_cores_percent, most)),
        "validRange": {"min": "0", "max": str(most), "step": "1"},
    }


def _mode(layout: Layout) -> dict[str, Attribute]:
    return {ATTRIBUTE_MODE: Attribute(string=str(layout.mode))}


def device_attributes(gpu: Gpu, *, kind: str = "gpu", partition: Partition | None = None) -> dict[str, Attribute]:
    """What a device of the card is, however the card is offered: a partition of it, or of the kind `gpu` or `share`.

    A MIG instance has NVIDIA's words beside those that every vendor's partition has.
    """
    if partition is None:
        return dict(_attributes(gpu, kind=kind))
    profile = Attribute(string=partition.profile)
    attributes = dict(_attributes(gpu, kind="mig" if partition.is_mig else "partition"))
    attributes |= {"partitionProfile": profile, "parentUUID": Attribute(string=gpu.uuid)}
    return attributes | {"migProfile": profile} if partition.is_mig else attributes


def _attributes(gpu: Gpu, *, kind: str) -> Iterator[tuple[str, Attribute]]:
    strings = {
        "vendor": gpu.vendor,
        "type": kind,
        "uuid": None if kind in _KINDS_OF_PARTITIONS else gpu.uuid,
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
