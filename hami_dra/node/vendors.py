"""The vendors of a node as one: their cards in one inventory, and each question to the vendor whose card it is about.

A vendor whose hardware is not in this machine is not missed.  One that is there and does not answer keeps the cards that it
had, and the inventory says so in `failures`: it never hides the cards of another.
"""

import logging
from collections.abc import Sequence

from hami_dra.core.errors import DriverError
from hami_dra.core.figures import Figures
from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import Inventory, merge
from hami_dra.node.ports import HealthSensor, Vendor

__all__ = ["Vendors"]

_log = logging.getLogger(__name__)


class Vendors:
    """Call it for the inventory of the node.  Not for several threads at once, but `figures` may be asked for by another one."""

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

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """What the vendor of that card says about its processes.

        Raises:
            DriverError: the card does not answer.
        """
        for vendor in self._vendors:
            part = self._parts.get(vendor.name)
            if part is not None and any(gpu.uuid == uuid for gpu in part.gpus):
                return vendor.figures(uuid, since_us=since_us)
        return None
