"""The places for MIG instances on a card, and the counters that keep them apart (KEP-4815).

Each memory slice is a counter of one, so two partitions that lie over each other cannot both be allocated; what NVML counts
besides (compute slices, multiprocessors, engines) are counters as well.  The whole card takes all of everything.  Invariant: any
set of partitions within the counters can exist at once as far as memory slices go, and a set with an overlap is never within.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hami_dra.api.k8s import Counter, CounterConsumption, CounterSet, Device
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, MigProfile, Partition

__all__ = ["Placement", "counter_set", "memory_slices", "placements", "whole_card"]

_SLICE = "memory-slice-"
_ENGINES = ("multiprocessors", "copy_engines", "decoders", "encoders", "jpeg_engines", "ofa_engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A profile at a place on a card."""

    partition: Partition
    profile: MigProfile
    size: int
    """Memory slices from `partition.start` on."""

    @property
    def memory_slices(self) -> range:
        """The memory slices that it takes."""
        return range(self.partition.start, self.partition.start + self.size)

    def overlaps(self, other: "Placement") -> bool:
        """Whether the two cannot exist at once."""
        mine, theirs = self.memory_slices, other.memory_slices
        return mine.start < theirs.stop and theirs.start < mine.stop

    @property
    def consumption(self) -> CounterConsumption:
        """What it takes of the card's counter set."""
        counters = dict(_uses(self.profile)) | {_slice(number): 1 for number in self.memory_slices}
        return {"counterSet": _name(self.partition.gpu), "counters": _counters(counters)}


def placements(gpu: Gpu) -> tuple[Placement, ...]:
    """All places of all profiles, small profiles first and, within a profile, the place that spoils the fewest others."""
    profiles = () if gpu.mig is None else gpu.mig.profiles
    every = [
        Placement(
            partition=Partition(gpu=gpu.name, profile=profile.name, start=start),
            profile=profile,
            size=size,
        )
        for profile in profiles
        for start, size in profile.placements
    ]

    def rank(place: Placement) -> tuple[int, int, str, int, int]:
        profile = place.profile
        spoilt = sum(place.overlaps(other) for other in every)
        return profile.memory_slices, profile.compute_slices, profile.name, spoilt, place.partition.start

    return tuple(sorted(every, key=rank))


def counter_set(gpu: Gpu) -> CounterSet:
    """Everything that the card's partitions share."""
    return {"name": _name(gpu.name), "counters": _counters(_totals(gpu))}


def whole_card(gpu: Gpu) -> CounterConsumption:
    """What the card as one device takes: all of it."""
    return {"counterSet": _name(gpu.name), "counters": _counters(_totals(gpu))}


def memory_slices(device: Device) -> frozenset[str]:
    """The counters of the memory slices that a published device consumes."""
    consumed = [name for each in device.get("consumesCounters", []) for name in each["counters"]]
    return frozenset(name for name in consumed if name.startswith(_SLICE))


def _totals(gpu: Gpu) -> dict[str, int]:
    """What an empty card has: NVML says how many instances of each profile it takes."""
    totals: dict[str, int] = {}
    for place in placements(gpu):
        for name, count in _uses(place.profile):
            totals[name] = max(totals.get(name, 0), count * place.profile.instances)
        totals |= {_slice(number): 1 for number in place.memory_slices}
    return totals


def _uses(profile: MigProfile) -> Iterator[tuple[str, int]]:
    yield "compute-slices", profile.compute_slices
    for name in _ENGINES:
        if count := getattr(profile, name):
            yield name.replace("_", "-"), count


def _counters(counts: dict[str, int]) -> dict[str, Counter]:
    return {name: Counter(value=str(count)) for name, count in sorted(counts.items())}


def _slice(number: int) -> str:
    return f"{_SLICE}{number}"


def _name(gpu: DeviceName) -> str:
    return f"{gpu}-counters"
