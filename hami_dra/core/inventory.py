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
    "LivePartition",
    "MigInstance",
    "MigProfile",
    "MigSupport",
    "Partition",
    "card_of",
    "device_name",
    "fixed_share_index",
    "fixed_share_name",
    "merge",
    "parse_partition",
    "published_memory",
]

_PCI = re.compile(r"(?P<domain>[0-9a-f]{4,8}):(?P<rest>[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_PARTITION = re.compile(
    r"(?P<gpu>gpu-[0-9a-f-]+)-mig-(?P<slices>[0-9]+g)-(?P<memory>[0-9]+gb)(?P<extras>(?:-[a-z]+)*)-(?P<start>[0-9]+)"
)
_FIXED_SHARE = re.compile(r"(?P<gpu>gpu-[0-9a-f-]+)-share-(?P<index>[0-9]+)")
_MODE_PARTITION = re.compile(r"(?P<gpu>gpu-[0-9a-f-]+)-(?P<profile>[dtqc]px)-(?P<start>[0-9]+)")
"""Where a mode of the whole card makes the partitions, as AMD's compute modes do: the mode is the profile."""
_WITHOUT = "no"
"""Says a profile's `-me` in a device name, where `-me` already stands for `+me`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """A file below /dev that a container needs.

    `character` is false where a simulated driver poses with a regular file: that one is bind-mounted.
    """

    host_path: str
    container_path: str
    character: bool = True
    number: tuple[int, int] | None = None
    """Major and minor: with them the container gets the device whether the host has the file or not."""


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
    KERNEL = "Kernel"
    """The kernel, for each pod (cgroup v2, dmem): memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigProfile:
    """A kind of GPU instance that a card can be cut into, as NVML describes it."""

    name: str
    """Such as `1g.10gb` or `1g.10gb+me`."""
    id: int
    """NVML's id of the GPU instance profile."""
    compute_profile_id: int
    """NVML's id of the compute instance profile that takes the whole instance."""
    memory_bytes: int
    compute_slices: int
    memory_slices: int
    multiprocessors: int
    instances: int
    """How many the empty card takes at once."""
    placements: tuple[tuple[int, int], ...]
    """(start, size) in memory slices."""
    copy_engines: int = 0
    decoders: int = 0
    encoders: int = 0
    jpeg_engines: int = 0
    ofa_engines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MigSupport:
    """What a card can do of MIG."""

    enabled: bool
    """Whether the card is in MIG mode now: then it cannot be used as one device."""
    switchable: bool
    """Whether the mode can be changed while the node runs; elsewhere it takes a reset of the GPU."""
    profiles: tuple[MigProfile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigInstance:
    """A GPU instance that exists, with the compute instance that takes all of it."""

    profile: str
    start: int
    uuid: GpuUuid
    gpu_instance_id: int
    compute_instance_id: int
    memory_bytes: int
    ours: bool = False
    """Made for claims of this node, and not by somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A place on a card for an instance of a profile, whether the instance exists or not."""

    gpu: DeviceName
    profile: str
    start: int

    @property
    def is_mig(self) -> bool:
        """Whether it is an instance of its own, as MIG's are, and not one that a mode of the whole card makes."""
        return _MODE_PARTITION.fullmatch(self._plain) is None

    @property
    def _plain(self) -> str:
        return f"{self.gpu}-{self.profile}-{self.start}"

    @property
    def name(self) -> DeviceName:
        """`gpu-0000-17-00-0-mig-1g-10gb-me-0` for profile `1g.10gb+me` at memory slice 0, `gpu-0000-17-00-0-cpx-3` for cpx."""
        if not self.is_mig:
            return DeviceName(self._plain)
        slug = self.profile.replace("-", f"-{_WITHOUT}-").replace("+", "-").replace(".", "-")
        return DeviceName(f"{self.gpu}-mig-{slug}-{self.start}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePartition:
    """A partition that exists."""

    uuid: GpuUuid
    device_files: tuple[DeviceFile, ...] = ()
    """What a container needs beside the files of the card."""
    alone: bool = False
    """Whether the files of the card are not for its containers, because they give all of the card."""


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
    mig: MigSupport | None = None
    """None: the card cannot be partitioned."""
    instances: tuple[MigInstance, ...] = ()
    """Whoever made them."""
    memory_region: str | None = None
    """What the kernel calls the card's memory, where it holds the shares."""


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

    def card(self, device: str) -> Gpu | None:
        """The GPU that a device is, or is a part of; None if it is not here."""
        return self.gpu(card_of(device))


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


def parse_partition(name: str) -> Partition | None:
    """The partition of that device name, or None for a device that is none; inverse of `Partition.name`."""
    if (match := _MODE_PARTITION.fullmatch(name)) is not None:
        return Partition(gpu=DeviceName(match["gpu"]), profile=match["profile"], start=int(match["start"]))
    match = _PARTITION.fullmatch(name)
    if match is None:
        return None
    first, *rest = match["extras"].removeprefix("-").split("-")
    extras = f"-{'-'.join(rest)}" if first == _WITHOUT else ".".join((f"+{first}" if first else "", *rest))
    profile = f"{match['slices']}.{match['memory']}{extras}"
    return Partition(gpu=DeviceName(match["gpu"]), profile=profile, start=int(match["start"]))


def fixed_share_name(gpu: DeviceName, index: int) -> DeviceName:
    """`gpu-0000-17-00-0-share-3`."""
    return DeviceName(f"{gpu}-share-{index}")


def fixed_share_index(name: str) -> int | None:
    """Which fixed share of its card the device of that name is, or None for a device that is none."""
    match = _FIXED_SHARE.fullmatch(name)
    return None if match is None else int(match["index"])


def card_of(name: str) -> DeviceName:
    """The card on which the device of that name lies, which is the device itself where it is no part of one."""
    match = _FIXED_SHARE.fullmatch(name) or _PARTITION.fullmatch(name) or _MODE_PARTITION.fullmatch(name)
    return DeviceName(name if match is None else match["gpu"])


def published_memory(memory_bytes: int) -> int:
    """What a slice says of a device's memory: whole mebibytes, the step of a request.  Who holds all of them holds the card."""
    return memory_bytes >> 20 << 20
