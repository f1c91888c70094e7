"""Time as a value that is handed in.

Every wait of the house goes through a `Clock`, so that a test can own time: `hami_dra.testing.clock.FakeClock` moves it by
hand.  Invariant: `monotonic` never goes back; `now` is for people and for the API server, never for measuring.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import threading

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock", "micro_time", "rfc3339"]


class Clock(Protocol):
    """What the house needs from time."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def now(self) -> dt.datetime:
        """The wall clock, in UTC."""
        ...

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Release `condition`, which the caller holds, until it is notified or `timeout_s` of this clock went by."""
        ...


class SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.monotonic()

    def now(self) -> dt.datetime:
        """The wall clock, in UTC."""
        return dt.datetime.now(tz=dt.UTC)

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Release `condition` until it is notified or `timeout_s` went by."""
        condition.wait(timeout_s)


SYSTEM_CLOCK = SystemClock()


def rfc3339(moment: dt.datetime) -> str:
    """`moment` as a Kubernetes `Time`: whole seconds, UTC, `Z`."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_time(moment: dt.datetime) -> str:
    """`moment` as a Kubernetes `MicroTime` (Lease and Event carry these)."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
