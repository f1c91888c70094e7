"""What preparing a claim on this node means, before anything is done.

`plan_claim` joins what the claim says (`core.resolve`) with what the node has (`core.inventory`).  Whether it fits beside what is
prepared already is a question for `core.capacity`.  Plans are values that the ledger keeps, so everything a node writes for a
claim can be made again without the API server.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from hami_dra.api.names import CDI_KIND
from hami_dra.api.opaque import Isolation, Qos
from hami_dra.api.quantity import format_bytes
from hami_dra.core.allocation import Allocation
from hami_dra.core.devices import Offers, Size
from hami_dra.core.errors import CapacityExceeded, InvalidConfig, UnknownDevice
from hami_dra.core.ids import ClaimUid, GpuUuid, PodUid
from hami_dra.core.inventory import (
    Gpu,
    Holder,
    Inventory,
    MigProfile,
    Partition,
    fixed_share_index,
    parse_partition,
)
from hami_dra.core.limits import Limits
from hami_dra.core.modes import check_card
from hami_dra.core.share import ShareSpec

__all__ = ["ClaimPlan", "PlannedPartition", "PlannedShare", "plan_claim"]

_ALL_CORES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPartition:
    """The partition of a card that a share needs."""

    place: Partition
    size: int
    """In memory slices."""
    ours: bool = True
    """Made for claims and removed after the last; otherwise somebody else made it, and it is used as it is."""
    uuid: GpuUuid | None = None
    """What the driver calls it; None until it was there."""

    def overlaps(self, other: "PlannedPartition") -> bool:
        """Whether the two, of one card, need a memory slice in common without being the same."""
        a, b = self.place, other.place
        return a != b and a.start < b.start + other.size and b.start < a.start + self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedShare:
    """One share as this node will serve it."""

    spec: ShareSpec
    gpu_uuid: GpuUuid
    """Of the card."""
    device_memory_bytes: int
    """That is there, whatever is offered of it."""
    offered: Size
    """What the slices say of the device."""
    memory_region: str | None = None
    """Where the kernel holds the share: what it calls the memory of the card."""
    partition: PlannedPartition | None = None
    """None for a share of a card that is used as one device."""

    @property
    def memory_bytes(self) -> int:
        """What the share may hold: the charged amount, or of a device that is allocated as a whole what its limits leave."""
        if self.spec.memory_bytes is not None:
            return self.spec.memory_bytes
        limit = self.spec.limit_memory_bytes
        return self.offered.memory_bytes if limit is None else limit

    @property
    def cores_percent(self) -> int:
        """What the share was promised; 0: nothing."""
        if fixed_share_index(self.spec.device) is None:
            return self.spec.cores_percent
        if self.spec.qos is Qos.BEST_EFFORT:
            return 0
        limit = self.spec.limit_cores_percent
        return self.offered.cores_percent if limit is None else limit

    @property
    def guarded(self) -> bool:
        """Whether the guard holds its memory, rather than the kernel or nobody."""
        return self.spec.isolation is not Isolation.NONE and self.memory_region is None

    @property
    def limits(self) -> Limits | None:
        """What the share is held to, by the guard or the kernel; None where nothing holds it."""
        if self.spec.isolation is Isolation.NONE:
            return None
        # Time slices and MPS divide compute by themselves.
        guards_cores = self.spec.isolation is Isolation.GUARD
        return Limits(
            share=self.spec.key,
            device_uuid=(self.partition and self.partition.uuid) or self.gpu_uuid,
            memory_limit_bytes=min(self.memory_bytes, self.device_memory_bytes),
            device_memory_bytes=self.device_memory_bytes,
            cores_percent=self.cores_percent if guards_cores else 0,
            qos=self.spec.qos if guards_cores else Qos.BEST_EFFORT,
            priority=self.spec.priority,
            managed_limit_bytes=self.spec.oversubscription_bytes,
            mps_percent=(self.cores_percent or _ALL_CORES) if self.spec.isolation is Isolation.MPS else 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPlan:
    """Everything that preparing a claim here means."""

    namespace: str
    name: str
    uid: ClaimUid
    shares: tuple[PlannedShare, ...]
    pods: tuple[PodUid, ...] = ()
    """Where the kernel holds a share: the pods that it holds to it."""
    pod_claim: str = ""
    """Made from a template: what the pod calls it."""

    def cdi_device(self, share: PlannedShare) -> str:
        """Name of the share's device in the claim's CDI spec."""
        return f"{self.uid}-{share.spec.key}"

    def cdi_id(self, share: PlannedShare) -> str:
        """Fully qualified CDI device name, as kubelet hands it to the runtime."""
        return f"{CDI_KIND}={self.cdi_device(share)}"


def plan_claim(
    allocation: Allocation, specs: Iterable[ShareSpec], inventory: Inventory, *, offers: Offers | None = None
) -> ClaimPlan:
    """Join the claim's shares with the devices of this node, as they are offered; None: as they are without settings.

    Raises:
        UnknownDevice: a share is on a device that this node does not have.
        CapacityExceeded: limits above a fixed share.
        InvalidConfig: isolation None on less than a whole device, Guard on a card of which nothing holds shares, or more than the
            kernel can hold where it does.
    """
    where = f"claim {allocation.namespace}/{allocation.name}"
    shares = tuple(_plan_share(where, spec, inventory, offers or Offers()) for spec in specs)
    held = [share for share in shares if share.memory_region is not None]
    if held and len(allocation.pods) != 1:
        raise InvalidConfig(
            f"{where}: device {held[0].spec.device} is shared by what the kernel allows each pod, so that {len(allocation.pods)}"
            " pods with one claim would get that many times the share; give each pod its own claim (resourceClaimTemplateName)"
        )
    return ClaimPlan(
        namespace=allocation.namespace,
        name=allocation.name,
        uid=allocation.uid,
        shares=shares,
        pods=allocation.pods if held else (),
        pod_claim=allocation.pod_claim,
    )


def _plan_share(where: str, spec: ShareSpec, inventory: Inventory, offers: Offers) -> PlannedShare:
    gpu = inventory.card(spec.device)
    if gpu is None:
        known = ", ".join(gpu.name for gpu in inventory.gpus) or "no device at all"
        raise UnknownDevice(f"{where}: device {spec.device} is not on this node, which has {known}")
    place = None if spec.device == gpu.name else parse_partition(spec.device)
    # What the kernel knows is the memory of a card, not that of its partitions.
    holder = None if place is not None and gpu.holder is Holder.KERNEL else gpu.holder
    if spec.isolation is Isolation.GUARD and holder is None:
        raise InvalidConfig(
            f"{where}, request {spec.request}: isolation Guard holds a share of a device, but nothing on this node holds shares"
            f" of {spec.device} ({gpu.product_name}, vendor {gpu.vendor}); leave isolation out and ask for the whole device"
        )
    check_card(where, spec, gpu)
    profile = None if place is None else _profile(where, place, gpu)
    share = PlannedShare(
        spec=spec,
        gpu_uuid=gpu.uuid,
        device_memory_bytes=gpu.memory_bytes if profile is None else profile.memory_bytes,
        memory_region=_memory_region(where, spec, gpu),
        offered=_offered(where, spec, gpu, offers) if profile is None else offers.size(gpu, profile.memory_bytes),
        # A monitor sees the card: nothing is made for it, and nothing is kept for it.
        partition=None
        if place is None or profile is None or spec.admin_access
        else PlannedPartition(place=place, size=profile.memory_slices),
    )
    offered = share.offered.memory_bytes
    if spec.isolation is Isolation.NONE and share.memory_bytes < offered and not spec.admin_access:
        raise InvalidConfig(
            f"{where}, request {spec.request}: isolation None is for whole devices, but the share is "
            f"{format_bytes(share.memory_bytes)} of {format_bytes(offered)}; use isolation Guard or ask for the whole device"
        )
    return share


def _memory_region(where: str, spec: ShareSpec, gpu: Gpu) -> str | None:
    """The region of a share that the kernel holds; a monitor is held to nothing."""
    if spec.isolation is not Isolation.GUARD or gpu.holder is not Holder.KERNEL or spec.admin_access:
        return None
    beyond = {"cores": spec.cores_percent, "memory.oversubscription": spec.oversubscription_bytes}
    for name, value in beyond.items():
        if value:
            raise InvalidConfig(
                f"{where}, request {spec.request}: shares of {gpu.name} ({gpu.product_name}, vendor {gpu.vendor}) are held"
                f" by the kernel, which knows device memory only, but {name} is {value}; leave it out"
            )
    return gpu.memory_region


def _profile(where: str, place: Partition, gpu: Gpu) -> MigProfile:
    profiles = () if gpu.mig is None else gpu.mig.profiles
    for profile in profiles:
        if profile.name == place.profile and any(start == place.start for start, _ in profile.placements):
            return profile
    known = ", ".join(profile.name for profile in profiles) or "none at all"
    raise UnknownDevice(
        f"{where}: device {place.name}: {gpu.name} has no profile {place.profile} at memory slice {place.start};"
        f" its profiles are {known}"
    )


def _offered(where: str, spec: ShareSpec, gpu: Gpu, offers: Offers) -> Size:
    """What the share's device offers; limits can only ask for less."""
    index = fixed_share_index(spec.device)
    if index is None:
        return offers.size(gpu, gpu.memory_bytes)
    parts = offers.parts(gpu)
    if index >= parts:
        raise UnknownDevice(f"{where}: device {spec.device} is not on this node: {gpu.name} has {parts} fixed shares")
    offered = offers.size(gpu, gpu.memory_bytes, parts=parts)
    if spec.limit_memory_bytes is not None and spec.limit_memory_bytes > offered.memory_bytes:
        raise CapacityExceeded(
            f"{where}, request {spec.request}: limits.memory is {format_bytes(spec.limit_memory_bytes)}, but fixed share"
            f" {spec.device} has {format_bytes(offered.memory_bytes)}; limits can only ask for less"
        )
    if spec.limit_cores_percent is not None and spec.limit_cores_percent > offered.cores_percent:
        raise CapacityExceeded(
            f"{where}, request {spec.request}: limits.cores is {spec.limit_cores_percent}, but fixed share {spec.device} has"
            f" {offered.cores_percent}; limits can only ask for less"
        )
    return offered
