"""Samples of how long calls took: quantiles, and differences of contenders that were measured in turns.

The machine's speed drifts, so what is compared is measured round by round, and a difference is the median of the rounds'
differences.  Times are nanoseconds.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Samples", "over", "quantile"]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of an ordered, non-empty sequence does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(kw_only=True)
class Samples:
    """What was seen of one call under one contender."""

    typical: list[float] = field(default_factory=list)
    """Of each round the median time of a call, from samples that repeat it."""
    single: list[float] = field(default_factory=list)
    """Of all rounds the times of calls that were timed alone, without the clock's own."""

    def add(self, *, repeated: Sequence[float], single: Sequence[float]) -> None:
        """Take in one round."""
        self.typical.append(statistics.median(repeated))
        self.single += single

    def tail(self, share: float) -> float:
        """A quantile of the calls that were timed alone."""
        return quantile(sorted(self.single), share)

    @property
    def p50(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.typical)


def over(one: Samples, other: Samples) -> float:
    """How much longer a call takes under `one`: the median of the rounds' differences."""
    return statistics.median(a - b for a, b in zip(one.typical, other.typical, strict=True))
