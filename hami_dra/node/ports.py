"""What the services of the node plugin need from outside, as Protocols.

Adapters (`host`, `kube`, `vendors`) fit them without knowing them; tests hand in fakes, or wrap an adapter to crash between any
two effects.  Every method raises errors of `core.errors` only.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from hami_dra.api.k8s import AllocatedDeviceStatus, JsonObject, ObjectReference, ResourceClaim, ResourceSlice
from hami_dra.api.opaque import Interval
from hami_dra.core.device_health import Fault, Pulse
from hami_dra.core.figures import Figures
from hami_dra.core.ids import ClaimUid, DeviceName, GpuUuid, PodUid, ShareKey
from hami_dra.core.inventory import Inventory, LivePartition, Partition
from hami_dra.core.limits import Limits
from hami_dra.core.mps import Answer, Wanted
from hami_dra.core.node_config import Remembered
from hami_dra.core.plan import ClaimPlan
from hami_dra.core.record import Entry
from hami_dra.core.usage import Usage

__all__ = [
    "Attribution",
    "CdiFiles",
    "ClaimReader",
    "ConfigMemory",
    "DeviceStatusWriter",
    "EventSink",
    "HealthMemory",
    "HealthSensor",
    "Ledger",
    "LiveShareFiles",
    "Locks",
    "Meter",
    "MpsDaemons",
    "NodeFiles",
    "Partitioner",
    "PodCaps",
    "Processes",
    "ShareFiles",
    "SliceStore",
    "TimeSlicer",
    "Vendor",
]


class ClaimReader(Protocol):
    """Claims as the API server holds them."""

    def get(self, *, namespace: str, name: str) -> ResourceClaim:
        """One claim; `NotFound` if there is none, `ApiUnavailable` if nobody can tell."""
        ...


class DeviceStatusWriter(Protocol):
    """`ResourceClaim.status.devices`."""

    def apply_devices(
        self, claim: ResourceClaim, devices: Iterable[AllocatedDeviceStatus], *, field_manager: str
    ) -> ResourceClaim:
        """Make `devices` all that `field_manager` says there, by server-side apply."""
        ...


class EventSink(Protocol):
    """Events on objects; neither blocks nor fails."""

    def emit(
        self, regarding: ObjectReference, *, event_type: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Say something about an object."""
        ...


class SliceStore(Protocol):
    """The ResourceSlices of this driver on this node."""

    def list(self) -> list[ResourceSlice]:
        """All of them."""
        ...

    def create(self, wanted: ResourceSlice) -> ResourceSlice:
        """Create one; returns what the server kept."""
        ...

    def try_create(self, wanted: ResourceSlice) -> ResourceSlice:
        """What the server would keep of one, which is not created; `Invalid` where it would not take it."""
        ...

    def update(self, wanted: ResourceSlice) -> ResourceSlice:
        """Replace one, at its resourceVersion; returns what the server kept."""
        ...

    def delete(self, doomed: ResourceSlice) -> None:
        """Delete one, if it is still the same object."""
        ...


class Ledger(Protocol):
    """The durable record of prepared claims."""

    @property
    def moved_aside(self) -> Path | None:
        """Where a damaged predecessor lies, if this ledger had to start empty."""
        ...

    @property
    def made_anew(self) -> bool:
        """Whether nothing was known when it was opened."""
        ...

    def get(self, uid: ClaimUid) -> Entry | None:
        """What is known of the claim."""
        ...

    def entries(self) -> list[Entry]:
        """Everything, those of another boot too."""
        ...

    def begin(self, plan: ClaimPlan, *, check: Callable[[Sequence[ClaimPlan]], None]) -> None:
        """Write down as Started unless `check`, given all other claims of this boot, raises."""
        ...

    def complete(self, uid: ClaimUid) -> None:
        """Turn Started to Completed, on disk."""
        ...

    def remove(self, uid: ClaimUid) -> None:
        """Forget the claim; an unknown one is no error."""
        ...

    def restore(self, entries: Iterable[Entry]) -> None:
        """Add claims that are known from elsewhere."""
        ...


class ShareFiles(Protocol):
    """Limits and usage files."""

    def ensure(self, plan: ClaimPlan, *, boot: str, texts: Mapping[str, str]) -> None:
        """Make whatever lacks, `texts` by their names too; what is there stays as it is."""
        ...

    def remove(self, uid: ClaimUid) -> None:
        """Remove all files of the claim; none is no error."""
        ...

    def uids(self) -> set[ClaimUid]:
        """The claims that have files."""
        ...

    def record(self, uid: ClaimUid) -> Entry | None:
        """What the files say was prepared; None where they do not say."""
        ...


class LiveShareFiles(Protocol):
    """Limits and usage files while containers use them."""

    def alone(self) -> AbstractContextManager[bool]:
        """Whether this process may change limits; it may until the end of the block."""
        ...

    def stamp(self) -> int:
        """Changes whenever a claim's files come or go."""
        ...

    def usage(self, uid: ClaimUid, key: ShareKey) -> Usage | None:
        """What the share's processes say; None where they said nothing."""
        ...

    def change(self, uid: ClaimUid, limits: Limits) -> bool:
        """Make the share's page say that; false where the share is gone."""
        ...


class HealthSensor(Protocol):
    """What the driver says about the health of cards; never blocks."""

    def faults(self) -> Sequence[tuple[DeviceName, Fault]]:
        """What happened since the last call.  Raises DriverError."""
        ...

    def pulses(self, names: Collection[DeviceName]) -> Mapping[DeviceName, Pulse]:
        """How these cards are; without those of which nothing can be said.  Raises DriverError."""
        ...


class HealthMemory(Protocol):
    """A text that outlives the process."""

    def read(self) -> str:
        """The text; empty where there is none."""
        ...

    def write(self, text: str) -> None:
        """Replace it."""
        ...


class Meter(Protocol):
    """What the driver says about processes."""

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """What it sampled on that card later than `since_us` of its clock; None for nothing new.  Raises DriverError."""
        ...

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> Mapping[int, int] | None:
        """Bytes of that card, or of that partition of it, that each process holds, by pid; None where it cannot tell.

        Raises DriverError.
        """
        ...


class Partitioner(Protocol):
    """Cuts cards.  No two calls for one card run at once, whatever their process."""

    def ensure(self, partition: Partition, *, make: bool) -> LivePartition:
        """The partition, made if it is not there and `make` says so.

        Raises PartitionRefused where the card cannot have it, or not now; then nothing was made.
        """
        ...

    def remove(self, partition: Partition) -> None:
        """Destroy the partition; none is no error.  Raises DriverError where it is still there."""
        ...

    def live(self, gpu: DeviceName) -> Collection[Partition]:
        """The partitions that exist on the card, whoever made them."""
        ...

    def make_whole(self, gpu: DeviceName) -> None:
        """See to it that the card can be used as one device.  Raises PartitionRefused where it cannot."""
        ...


class TimeSlicer(Protocol):
    """How long processes' turns on cards last."""

    def set(self, gpu: GpuUuid, interval: Interval) -> None:
        """Let turns on that card last so long.  Raises DriverError."""
        ...


class MpsDaemons(Protocol):
    """The control daemons of MPS, kept by another process.  Raises NodeStateError."""

    def want(self, device: DeviceName, wanted: Wanted) -> None:
        """Ask for one, or for another setting of it."""
        ...

    def forget(self, device: DeviceName) -> None:
        """Have it ended; none is no error."""
        ...

    def wanted(self) -> Mapping[DeviceName, Wanted]:
        """Those that are asked for."""
        ...

    def answer(self, device: DeviceName) -> Answer | None:
        """How it is; None where nobody says."""
        ...

    def kept(self) -> bool:
        """Whether somebody keeps daemons on this node."""
        ...


class Vendor(Meter, Protocol):
    """The cards of one vendor, and what its driver says of them."""

    def sensor(self) -> HealthSensor | None:
        """Who tells of their health; None where nothing does but their being there."""
        ...

    @property
    def name(self) -> str:
        """What `Gpu.vendor` of its cards says."""
        ...

    @property
    def partitions(self) -> Partitioner | None:
        """What cuts its cards; None where nothing does."""
        ...

    def present(self) -> bool:
        """Whether its hardware is in this machine, so that a driver that does not answer is missed."""
        ...

    def discover(self) -> Inventory:
        """Its cards and the files that their containers need.  Raises DriverError where its driver does not work (yet)."""
        ...


class Processes(Protocol):
    """The processes of this node."""

    def pod_uid(self, pid: int) -> str | None:
        """UID of the process's pod; None outside of pods."""
        ...

    def kill(self, pid: int, *, still: Callable[[int], bool]) -> bool:
        """End it if `still` says that it is the one that is meant; says whether.  Raises NodeStateError where not permitted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The driver's figures, and whose they are."""

    meter: Meter
    owner: Callable[[int], Collection[tuple[ClaimUid, ShareKey]]]
    """The shares of a process of this node."""


class PodCaps(Protocol):
    """What the kernel allows each pod."""

    def cap(self, pod: PodUid, caps: Mapping[str, int | None]) -> bool:
        """Give the pod that many bytes of each region, None for all there are; false where it has no cgroup."""
        ...


class ConfigMemory(Protocol):
    """The node configuration that was in force last."""

    def load(self) -> Remembered | None:
        """What was saved last, or None."""
        ...

    def save(self, remembered: Remembered) -> None:
        """Keep it, on disk."""
        ...

    def forget(self) -> None:
        """Keep nothing."""
        ...


class CdiFiles(Protocol):
    """CDI specs of claims."""

    def write(self, uid: ClaimUid, spec: JsonObject) -> None:
        """Write the claim's spec, unless the file says the same already."""
        ...

    def remove(self, uid: ClaimUid) -> None:
        """Remove the claim's spec; none is no error."""
        ...

    def uids(self) -> set[ClaimUid]:
        """The claims that have a spec."""
        ...

    def sweep(self) -> None:
        """Remove what killed writers left."""
        ...


class Locks(Protocol):
    """One worker at a time for one claim or card, whatever its thread and process."""

    def hold(self, name: ClaimUid | DeviceName) -> AbstractContextManager[None]:
        """Wait for the claim or card, and keep everybody else out."""
        ...

    def try_hold(self, uid: ClaimUid) -> AbstractContextManager[bool]:
        """Keep everybody else out if nobody is in: says whether that worked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFiles:
    """What of the node outlives the node plugin, the state of its cards included, and the boot in which it does."""

    ledger: Ledger
    shares: ShareFiles
    cdi: CdiFiles
    pods: PodCaps
    locks: Locks
    partitions: Partitioner
    time_slices: TimeSlicer
    mps: MpsDaemons
    boot: str
    """Id of the running boot: what another one left counts for nothing."""
    in_use: Callable[[], AbstractSet[ClaimUid]]
    """Claims whose files some process of this node has, as far as that can be seen."""
