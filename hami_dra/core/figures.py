"""The driver's figures about processes, turned into figures about shares.

What a driver says comes late, in whole percent, and names processes as this node does; which share a process belongs to is
for somebody else to know.  A process that nobody knows counts among the others.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from hami_dra.core.arbiter import Truth

__all__ = ["Figures", "attribute"]

_LEAST_S: Final = 0.05
_MOST_S: Final = 2.0
"""A gap longer than this says little about what happened in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the driver says about one card since it was last asked."""

    at_us: int
    """When the newest of the samples was taken, by the driver's clock."""
    busy: Mapping[int, float]
    """Fraction of the time by pid, of those that did something."""


def attribute(
    figures: Figures, *, since_us: int, owner: Callable[[int], Collection[str]], shares: Collection[str]
) -> Truth:
    """Add up the figures by share.

    Args:
        figures: of one card.
        since_us: `at_us` of the figures before.
        owner: the shares of a process; of several on this card the first in order gets all of it.
        shares: those of this card.
    """
    busy: dict[str, float] = {}
    others = 0.0
    for pid, fraction in figures.busy.items():
        mine = sorted(set(owner(pid)).intersection(shares))
        if mine:
            busy[mine[0]] = min(1.0, busy.get(mine[0], 0.0) + fraction)
        else:
            others += fraction
    over_s = min(_MOST_S, max(_LEAST_S, (figures.at_us - since_us) / 1e6))
    return Truth(over_s=over_s, busy=busy, others=min(1.0, others))
