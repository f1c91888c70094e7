"""The modes of cards, without cards."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hami_dra.api.opaque import Interval
from hami_dra.core.errors import DriverError
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted

__all__ = ["FakeMps", "FakeTimeSlices"]


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


@dataclass(slots=True)
class FakeMps:
    """Daemons that serve at once, unless they are down."""

    keeper: bool = True
    """Whether anybody keeps daemons."""
    asked: dict[DeviceName, Wanted] = field(default_factory=dict)
    down: dict[DeviceName, Answer] = field(default_factory=dict)
    """What is said of those that take no clients."""
    ends: dict[DeviceName, int] = field(default_factory=dict)

    def want(self, device: DeviceName, wanted: Wanted) -> None:
        """Ask for one."""
        self.asked[device] = wanted

    def forget(self, device: DeviceName) -> None:
        """Have it ended."""
        self.asked.pop(device, None)

    def wanted(self) -> Mapping[DeviceName, Wanted]:
        """Those that are asked for."""
        return dict(self.asked)

    def answer(self, device: DeviceName) -> Answer | None:
        """How it is."""
        if not self.keeper or device not in self.asked:
            return None
        serving = Answer(serves=self.asked[device], ends=self.ends.get(device, 0))
        return self.down.get(device, serving)

    def kept(self) -> bool:
        """Whether anybody keeps daemons."""
        return self.keeper

    def end(self, device: DeviceName, how: str = "nvidia-cuda-mps-control was killed by signal 9") -> None:
        """Let a daemon end."""
        self.ends[device] = self.ends.get(device, 0) + 1
        self.down[device] = Answer(serves=None, ends=self.ends[device], message=how)

    def come_back(self, device: DeviceName) -> None:
        """Let it serve again."""
        self.down.pop(device)
