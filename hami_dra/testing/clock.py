"""A clock that a test moves by hand.

Waiting threads wake up when the clock passes their deadline, so that minutes of back-off take no time at all.
"""

from __future__ import annotations

import datetime as dt
import threading

__all__ = ["FakeClock"]


class FakeClock:
    """Starts at a fixed moment.  With `jumps`, a wait with a deadline moves the clock there at once instead of waiting."""

    def __init__(self, *, jumps: bool = False) -> None:
        self._jumps = jumps
        self._elapsed_s = 1000.0
        self._start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._lock = threading.Lock()
        self._waiting: list[threading.Condition] = []
        self.waits: list[float] = []
        """Every wait that had a deadline, in seconds."""

    def monotonic(self) -> float:
        """Seconds on this clock."""
        return self._elapsed_s

    def now(self) -> dt.datetime:
        """The wall clock, which goes as fast as `monotonic`, but for its jumps."""
        return self._start + dt.timedelta(seconds=self._elapsed_s)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back: no time passes."""
        self._start += dt.timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        """Move on, and wake whoever waits: they see for themselves whether their time has come."""
        with self._lock:
            self._elapsed_s += seconds
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()

    def wait(self, condition: threading.Condition, timeout_s: float | None) -> None:
        """Release `condition` until it is notified or the clock moves."""
        with self._lock:
            if timeout_s is not None:
                self.waits.append(timeout_s)
                if self._jumps:
                    self._elapsed_s += timeout_s
                    return
            self._waiting.append(condition)
        try:
            condition.wait()
        finally:
            with self._lock:
                self._waiting.remove(condition)
