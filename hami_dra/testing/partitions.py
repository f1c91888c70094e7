"""Cards that can be cut, for tests: what `vendors.nvidia.partitions` does on NVIDIA's cards, without a driver.

Instances outlive the processes that make them, as on a card, and making one takes two steps between which a process can die.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hami_dra.core.errors import DriverError, PartitionRefused
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import DeviceFile, Inventory, LivePartition, MigInstance, MigProfile, Partition

__all__ = ["CuttableCards"]

_GPU_INSTANCE = "GPU instance"
_COMPUTE_INSTANCE = "compute instance"


@dataclass(slots=True)
class CuttableCards:
    """The cards of a node and their instances; the profiles are those of the inventory's cards."""

    hardware: Callable[[], Inventory]
    step: Callable[[str], None] = lambda _name: None
    """Told of each step before it is done: `GPU instance`, `compute instance`, `destroy`."""
    instances: dict[Partition, bool] = field(default_factory=dict)
    """Those that exist, and whether they have their compute instance."""
    mig: set[DeviceName] = field(default_factory=set)
    """The cards in MIG mode."""
    busy: set[DeviceName] = field(default_factory=set)
    """The cards on which processes compute."""
    series: str = ""
    """Part of the names of partitions: changes when the driver names them otherwise."""

    def ensure(self, partition: Partition, *, make: bool) -> LivePartition:
        """As the Protocol says."""
        if partition not in self.instances:
            if not make:
                raise PartitionRefused(f"device {partition.name} is gone")
            self._switch(partition.gpu, on=True)
            self._make(partition)
        if not self.instances[partition]:
            if not make:
                raise PartitionRefused(f"device {partition.name} has no compute instance")
            self.step(_COMPUTE_INSTANCE)
            self.instances[partition] = True
        file = f"/dev/nvidia-caps/{partition.name}"
        return LivePartition(
            uuid=self.uuid(partition), device_files=(DeviceFile(host_path=file, container_path=file, number=(237, 7)),)
        )

    def remove(self, partition: Partition) -> None:
        """As the Protocol says."""
        if partition in self.instances:
            if partition.gpu in self.busy:
                raise DriverError(f"cannot destroy {partition.name}: In use by another client")
            self.step("destroy")
            del self.instances[partition]

    def live(self, gpu: DeviceName) -> set[Partition]:
        """As the Protocol says."""
        return {partition for partition in self.instances if partition.gpu == gpu}

    def make_whole(self, gpu: DeviceName) -> None:
        """As the Protocol says."""
        if gpu in self.mig:
            if self.live(gpu):
                raise PartitionRefused(f"device {gpu} is in MIG mode and has GPU instances")
            self._switch(gpu, on=False)

    def listed(self, gpu: DeviceName) -> tuple[MigInstance, ...]:
        """What discovery sees on a card: the whole ones."""
        return tuple(
            MigInstance(
                profile=partition.profile,
                start=partition.start,
                uuid=self.uuid(partition),
                gpu_instance_id=number,
                compute_instance_id=0,
                memory_bytes=self._profile(partition).memory_bytes,
            )
            for number, (partition, whole) in enumerate(self.instances.items())
            if whole and partition.gpu == gpu
        )

    def uuid(self, partition: Partition) -> GpuUuid:
        """What the driver calls a partition."""
        return GpuUuid(f"MIG-{self.series}{partition.name}")

    def _switch(self, gpu: DeviceName, *, on: bool) -> None:
        if (gpu in self.mig) == on:
            return
        if gpu in self.busy:
            raise PartitionRefused(f"device {gpu}: MIG cannot be switched while processes use the card")
        (self.mig.add if on else self.mig.discard)(gpu)

    def _make(self, partition: Partition) -> None:
        end = partition.start + self._profile(partition).memory_slices
        for other in self.live(partition.gpu):
            if other.start < end and partition.start < other.start + self._profile(other).memory_slices:
                raise PartitionRefused(f"device {partition.name}: its place is taken by {other.name}")
        self.step(_GPU_INSTANCE)
        self.instances[partition] = False

    def _profile(self, partition: Partition) -> MigProfile:
        gpu = self.hardware().gpu(partition.gpu)
        for profile in () if gpu is None or gpu.mig is None else gpu.mig.profiles:
            if profile.name == partition.profile and any(start == partition.start for start, _ in profile.placements):
                return profile
        raise PartitionRefused(f"device {partition.name}: the card has no such profile there")
