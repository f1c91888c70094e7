"""How the compute of one card is divided among its shares, in this moment.

Guaranteed cores come first and are always there, whoever wants what.  What their owners leave idle goes to those who may use
idle time: High before Normal before Low, and within a priority BurstShare (by its cores) before BestEffort (in equal parts).
Nobody who wants to compute gets nothing for ever: a share without cores has a floor.  Pure arithmetic on fractions of the card.
Invariant: what active shares are given beyond their guarantees never exceeds what the guarantees leave idle, but for the floors.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hami_dra.api.opaque import Priority

__all__ = ["Claimant", "divide"]

_FLOOR: Final = 0.01
"""For an active share without cores of its own."""
_ALL_FLOORS: Final = 0.02
"""However many of them there are: they come out of guaranteed cores where nothing is idle."""
_ORDER: Final = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """What one share may and wants to have."""

    key: str
    guaranteed: float
    """Its cores, as a fraction of the card; 0: none promised."""
    bursts: bool
    """Whether it may use idle time."""
    priority: Priority
    active: bool
    """Whether it wants to compute at all."""
    need: float | None
    """What it is known to use; None: more than it gets, however much."""


def divide(claimants: Sequence[Claimant]) -> dict[str, float]:
    """What each share may use, as a fraction of the card.

    An idle share is given what it could have at once if it woke up now: at least its guarantee.
    """
    scale = 1.0 / max(1.0, sum(claimant.guaranteed for claimant in claimants))
    given = {claimant.key: _base(claimant, scale) for claimant in claimants}
    active = [claimant for claimant in claimants if claimant.active]
    given |= _floors(active)
    free = max(0.0, 1.0 - sum(given[claimant.key] for claimant in active))
    for rank in _ranks(active):
        for key, extra in _pour(free, rank, given).items():
            given[key] += extra
            free = max(0.0, free - extra)
    return {claimant.key: _allotment(claimant, given[claimant.key], free, scale) for claimant in claimants}


def _base(claimant: Claimant, scale: float) -> float:
    """The part of its guarantee that a share makes use of."""
    guaranteed = claimant.guaranteed * scale
    if not claimant.active:
        return 0.0
    return guaranteed if claimant.need is None else min(guaranteed, claimant.need)


def _floors(active: Iterable[Claimant]) -> dict[str, float]:
    without = [claimant.key for claimant in active if not claimant.guaranteed]
    return {key: min(_FLOOR, _ALL_FLOORS / len(without)) for key in without}


def _ranks(active: Sequence[Claimant]) -> Iterable[list[Claimant]]:
    """Who is served together, first to last."""
    for priority in _ORDER:
        for promised in (True, False):
            yield [c for c in active if c.bursts and c.priority is priority and (c.guaranteed > 0) is promised]


def _pour(free: float, rank: list[Claimant], given: dict[str, float]) -> dict[str, float]:
    """Divide `free` by weight; what one of them does not need goes to the others."""
    extra: dict[str, float] = {}
    thirsty = list(rank)
    while thirsty:
        weights = sum(_weight(claimant) for claimant in thirsty)
        sated = [c for c in thirsty if _thirst(c, given) <= free * _weight(c) / weights]
        if not sated:
            return extra | {c.key: free * _weight(c) / weights for c in thirsty}
        for claimant in sated:
            extra[claimant.key] = _thirst(claimant, given)
            free -= extra[claimant.key]
        thirsty = [claimant for claimant in thirsty if claimant.key not in extra]
    return extra


def _weight(claimant: Claimant) -> float:
    return claimant.guaranteed or 1.0


def _thirst(claimant: Claimant, given: dict[str, float]) -> float:
    return max(0.0, (1.0 if claimant.need is None else claimant.need) - given[claimant.key])


def _allotment(claimant: Claimant, given: float, free: float, scale: float) -> float:
    """Room that nobody wants is open to everybody who may use it: there is no need to hold back whom it does not hurt."""
    guaranteed = claimant.guaranteed * scale
    if not claimant.bursts:
        return guaranteed
    least = 0.0 if claimant.active else _FLOOR
    return min(1.0, max(least, max(guaranteed, given) + free))
