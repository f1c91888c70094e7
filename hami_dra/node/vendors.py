"""The vendors of a node as one: their cards in one inventory, and each question to the vendor whose card it is about.

A vendor whose hardware is not in this machine is not missed.  One that is there and does not answer keeps the cards that it
had, and the inventory says so in `failures`: it never hides the cards of another.
"""

import logging
from collections.abc import Collection, Mapping, Sequence

from hami_dra.core.errors import DriverError, PartitionRefused
from hami_dra.core.figures import Figures
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import Inventory, LivePartition, Partition, merge
from hami_dra.node.ports import HealthSensor, Partitioner, Vendor

__all__ = ["Vendors"]

_log = logging.getLogger(__name__)


class Vendors:
    """Call it for the inventory of the node.  Not for several threads at once, but others may ask for `figures` and `memory`."""

    def __init__(self, vendors: Sequence[Vendor]) -> None:
        """`vendors` are asked in this order."""
        self._vendors = tuple(vendors)
        self._parts: dict[str, Inventory] = {}
        self._failures: dict[str, str] = {}

    def __call__(self) -> Inventory:
        """Look at the hardware of every vendor.

        Raises:
            DriverError: none of them answers.
        """
        failed: dict[str, str] = {}
        for vendor in self._vendors:
            try:
                self._parts[vendor.name] = vendor.discover()
            except DriverError as error:
                failed[vendor.name] = str(error)
        missed = {
            vendor.name: failed[vendor.name]
            for vendor in self._vendors
            if vendor.name in failed and (vendor.name in self._parts or vendor.present())
        }
        if len(failed) == len(self._vendors):
            raise DriverError("; ".join((missed or failed).values()))
        for name, why in missed.items():
            if self._failures.get(name) != why:  # the same failure every few seconds is said once
                _log.warning("cards of %s cannot be looked at, it is tried again: %s", name, why)
        self._failures = missed
        return merge(self._parts.values(), failures=missed)

    def sensors(self) -> dict[str, HealthSensor]:
        """Who tells of the health of cards, by vendor; not every vendor's driver does."""
        found = {vendor.name: vendor.sensor() for vendor in self._vendors}
        return {name: sensor for name, sensor in found.items() if sensor is not None}

    def ensure(self, partition: Partition, *, make: bool) -> LivePartition:
        """Have the vendor of the card make or find the partition.

        Raises:
            PartitionRefused: the card cannot have it, or not now.
            DriverError: the card is not known (yet), or does not answer.
        """
        partitioner = self._partitioner(partition.gpu)
        if partitioner is None:
            raise PartitionRefused(f"device {partition.name}: nothing cuts cards of this vendor")
        return partitioner.ensure(partition, make=make)

    def remove(self, partition: Partition) -> None:
        """Have the vendor of the card destroy the partition.

        Raises:
            DriverError: it is still there, or the card is not known (yet).
        """
        if (partitioner := self._partitioner(partition.gpu)) is not None:
            partitioner.remove(partition)

    def live(self, gpu: DeviceName) -> Collection[Partition]:
        """The partitions that exist on a card.

        Raises:
            DriverError: the card is not known (yet), or does not answer.
        """
        partitioner = self._partitioner(gpu)
        return () if partitioner is None else partitioner.live(gpu)

    def make_whole(self, gpu: DeviceName) -> None:
        """See to it that a card can be used as one device.

        Raises:
            PartitionRefused: it cannot.
            DriverError: the card is not known (yet), or does not answer.
        """
        if (partitioner := self._partitioner(gpu)) is not None:
            partitioner.make_whole(gpu)

    def _partitioner(self, gpu: DeviceName) -> Partitioner | None:
        for vendor in self._vendors:
            part = self._parts.get(vendor.name)
            if part is not None and part.gpu(gpu) is not None:
                return vendor.partitions
        raise DriverError(f"device {gpu} is not known: no look at the hardware has seen it yet")

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """What the vendor of that card says about its processes.

        Raises:
            DriverError: the card does not answer.
        """
        vendor = self._vendor_of(uuid)
        return None if vendor is None else vendor.figures(uuid, since_us=since_us)

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> Mapping[int, int] | None:
        """What the vendor of that card says of the memory that each process holds, of all of it or of a partition.

        None where nobody can tell.

        Raises:
            DriverError: the card does not answer.
        """
        vendor = self._vendor_of(uuid)
        return None if vendor is None else vendor.memory(uuid, partition=partition)

    def _vendor_of(self, uuid: GpuUuid) -> Vendor | None:
        for vendor in self._vendors:
            part = self._parts.get(vendor.name)
            if part is not None and any(gpu.uuid == uuid for gpu in part.gpus):
                return vendor
        return None
