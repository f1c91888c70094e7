"""The modes of cards, without cards."""

from dataclasses import dataclass, field

from hami_dra.api.opaque import Interval
from hami_dra.core.errors import DriverError
from hami_dra.core.ids import GpuUuid

__all__ = ["FakeTimeSlices"]


@dataclass(slots=True)
class FakeTimeSlices:
    """Cards that take turns."""

    lost: set[GpuUuid] = field(default_factory=set)
    """Cards whose driver does not answer."""
    intervals: dict[GpuUuid, Interval] = field(default_factory=dict)
    """Of the cards that were told one."""

    def set(self, gpu: GpuUuid, interval: Interval) -> None:
        """Let turns on that card last so long."""
        if gpu in self.lost:
            raise DriverError(f"{gpu} does not answer")
        self.intervals[gpu] = interval
