"""Exponential back-off with full jitter.

Full jitter (a uniform draw between nothing and the exponential bound) spreads the retries of a thousand nodes after an
outage of the API server.  Pure: randomness comes in, waiting is left to the caller.
Invariant: no delay exceeds `cap_s`, and the bound never shrinks but by `reset`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff"]

# 2.0 ** 1024 overflows; no cap of practical use needs more doublings.
_MAX_DOUBLINGS = 60


@dataclass(slots=True)
class Backoff:
    """The delays before the first, second, ... retry of one thing.

    `rand` draws from [0, 1).
    """

    base_s: float
    cap_s: float
    rand: Callable[[], float] = field(default=random.random, repr=False)
    failures: int = field(default=0, init=False)

    def bound_s(self) -> float:
        """The longest that the next delay can be."""
        return float(min(self.cap_s, self.base_s * 2.0 ** min(self.failures, _MAX_DOUBLINGS)))

    def next_s(self, *, at_least_s: float = 0.0) -> float:
        """The delay to wait now, counting one failure.

        `at_least_s` is a server's Retry-After; the jitter is added to it, so that the clients it turned away do not come
        back together.
        """
        delay_s = self.bound_s() * self.rand()
        self.failures += 1
        return at_least_s + delay_s

    def reset(self) -> None:
        """Start over: the last attempt worked."""
        self.failures = 0
