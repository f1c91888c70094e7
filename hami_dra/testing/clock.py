"""A clock that a test moves by hand.

Waiting threads wake up when the clock passes their deadline, so that minutes of back-off take no time at all.
"""

from __future__ import annotations

import datetime as dt
import threading

__all__ = ["FakeClock"]

# How long a waiting thread may go without looking around: guards a test against a wake-up that it lost.
_LOOK_AROUND_S = 0.05


class FakeClock:
    """Starts at a fixed moment.  With `jumps`, a wait with a deadline moves the clock there at once instead of waiting."""

    def __init__(self, *, jumps: bool = False) -> None:
        self._jumps = jumps
        self._elapsed_s = 1000.0
        self._start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._lock = threading.Lock()
        self.waits: list[float] = []
        """Every wait that had a deadline, in seconds."""

    def monotonic(self) -> float:
        """Seconds on this clock."""
        return self._elapsed_s

    def now(self) -> dt.datetime:
        """The wall clock, which goes as fast as `monotonic`."""
        return self._start + dt.timedelta(seconds=self._elapsed_s)

    def advance(self, seconds: float) -> None:
        """Move on."""
        with self._lock:
            self._elapsed_s += seconds

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Release `condition` until it is notified or the clock was moved past the deadline."""
        if timeout_s is None:
            condition.wait(_LOOK_AROUND_S)
            return
        with self._lock:
            self.waits.append(timeout_s)
            deadline = self._elapsed_s + timeout_s
            if self._jumps:
                self._elapsed_s = deadline
        if self._elapsed_s < deadline:
            condition.wait(_LOOK_AROUND_S)
