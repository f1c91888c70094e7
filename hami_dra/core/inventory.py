"""What a node has, as values: the vendor-neutral answer of `vendors.*.discover`.

Invariant: `name` is stable over reboots and re-enumeration (it comes from the PCI address, never from an index).
Unknown is None, never 0 or "".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hami_dra.core.ids import DeviceName, GpuUuid

__all__ = [
    "DeviceFile",
    "DriverFiles",
    "Gpu",
    "Holder",
    "Inventory",
    "Library",
    "device_name",
    "merge",
    "published_memory",
]

_PCI = re.compile(r"(?P<domain>[0-9a-f]{4,8}):(?P<rest>[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """A file below /dev that a container needs.

    `character` is false where a simulated driver poses with a regular file: that one is bind-mounted.
    """

    host_path: str
    container_path: str
    character: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A library of the driver: the file on the host, and the sonames under which programs look for it."""

    host_path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverFiles:
    """What every container with a GPU of this vendor needs, whichever card it is."""

    libraries: tuple[Library, ...] = ()
    device_files: tuple[DeviceFile, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


class Holder(StrEnum):
    """What holds shares of a card to what they were given."""

    GUARD = "Guard"
    """The guard in their containers: memory and cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of the node."""

    name: DeviceName
    uuid: GpuUuid
    vendor: str
    product_name: str
    memory_bytes: int
    pci_address: str
    minor: int | None = None
    index: int | None = None
    brand: str | None = None
    architecture: str | None = None
    compute_capability: tuple[int, int] | None = None
    driver_version: str | None = None
    cuda_driver_version: tuple[int, int] | None = None
    numa_node: int | None = None
    pcie_root: str | None = None
    simulated: bool = False
    device_files: tuple[DeviceFile, ...] = ()
    holder: Holder | None = Holder.GUARD
    """None: nothing does, so that one claim at a time takes the card whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything that the node can offer, in PCI order."""

    gpus: tuple[Gpu, ...] = ()
    drivers: Mapping[str, DriverFiles] = field(default_factory=dict)
    """By vendor."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Vendors that did not answer the last look, and why: their cards are as of an earlier one."""

    def gpu(self, name: str) -> Gpu | None:
        """The GPU of that name, or None."""
        return next((gpu for gpu in self.gpus if gpu.name == name), None)


def merge(parts: Iterable[Inventory], *, failures: Mapping[str, str]) -> Inventory:
    """One inventory of those of several vendors."""
    known = list(parts)
    return Inventory(
        gpus=tuple(sorted((gpu for part in known for gpu in part.gpus), key=lambda gpu: gpu.pci_address)),
        drivers={vendor: files for part in known for vendor, files in part.drivers.items()},
        failures=failures,
    )


def device_name(pci_address: str) -> DeviceName:
    """`gpu-0000-17-00-0` for `0000:17:00.0` (also for NVML's eight-digit domain `00000000:17:00.0`).

    Raises:
        ValueError: not a PCI address.
    """
    match = _PCI.fullmatch(pci_address.lower())
    if match is None:
        raise ValueError(f"{pci_address!r} is not a PCI address such as 0000:17:00.0")
    domain = match["domain"].removeprefix("0000") if len(match["domain"]) == 8 else match["domain"]  # noqa: PLR2004
    return DeviceName(f"gpu-{domain}-{re.sub('[:.]', '-', match['rest'])}")


def published_memory(memory_bytes: int) -> int:
    """What a slice says of a device's memory: whole mebibytes, the step of a request.  Who holds all of them holds the card."""
    return memory_bytes >> 20 << 20
