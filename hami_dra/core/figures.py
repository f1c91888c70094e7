"""The driver's figures about processes, turned into figures about shares.

A driver samples about six times a second (some only once), in whole percent, and says nothing of processes that did nothing in a
sample: where all slept there is no sample at all.  `watch` therefore keeps the books over time: every second counts once, as
sampled or as silence.  Which share a process belongs to is for somebody else to know; one that nobody knows counts among the
others.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from hami_dra.core.arbiter import Truth

__all__ = ["Figures", "Watch", "Window", "attribute", "watch"]

_LEAST_PERIOD_S: Final = 0.15
_MOST_PERIOD_S: Final = 1.0
_SILENT_S: Final = 0.5
_SILENT_PERIODS: Final = 2
_MOST_S: Final = 2.0
"""What happened in a gap longer than this is not worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the driver says about one card since it was last asked."""

    at_us: int
    """When the newest of the samples was taken, by the driver's clock."""
    periods: int
    """How many sampling periods there are samples of."""
    busy: Mapping[int, float]
    """Fraction of those periods by pid, of those that did something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How far the books of one card are kept."""

    at_us: int | None = None
    """The driver's clock at its newest sample."""
    asked_s: float = 0.0
    """Our clock when the books were last written."""
    silent_s: float = 0.0
    """Time since that sample that was booked as silence."""
    period_s: float = _MOST_PERIOD_S
    """The driver's sampling period: the shortest that was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time that figures stand for, and how much of it they cover; the rest was silence."""

    over_s: float
    covered: float


def watch(before: Watch, figures: Figures | None, *, now_s: float) -> tuple[Watch, Window | None]:
    """Book what the driver said, or that it had nothing new to say; no window while that means nothing yet."""
    if before.at_us is None:
        return before if figures is None else Watch(at_us=figures.at_us, asked_s=now_s), None
    if figures is None:
        silent_s = now_s - before.asked_s
        if silent_s < max(_SILENT_S, _SILENT_PERIODS * before.period_s):
            return before, None
        return replace(before, asked_s=now_s, silent_s=before.silent_s + silent_s), Window(over_s=silent_s, covered=0.0)
    gap_s = (figures.at_us - before.at_us) / 1e6
    period_s = min(before.period_s, max(_LEAST_PERIOD_S, gap_s / figures.periods))
    after = Watch(at_us=figures.at_us, asked_s=now_s, period_s=period_s)
    covered_s = figures.periods * period_s
    over_s = max(covered_s, gap_s - before.silent_s)
    if over_s > _MOST_S:
        return after, None
    return after, Window(over_s=over_s, covered=covered_s / over_s)


def attribute(
    busy: Mapping[int, float], window: Window, *, owner: Callable[[int], Collection[str]], shares: Collection[str]
) -> Truth:
    """Add up figures by share.

    Args:
        busy: by pid.
        window: the time that they stand for.
        owner: the shares of a process; of several on this card the first in order gets all of it.
        shares: those of this card.
    """
    mine: dict[str, float] = {}
    others = 0.0
    for pid, fraction in busy.items():
        part = fraction * window.covered
        owned = sorted(set(owner(pid)).intersection(shares))
        if owned:
            mine[owned[0]] = min(1.0, mine.get(owned[0], 0.0) + part)
        else:
            others += part
    return Truth(over_s=window.over_s, busy=mine, others=min(1.0, others))
