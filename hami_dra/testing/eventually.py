"""Waiting in tests: for a condition, with a deadline, never for an amount of time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["eventually"]

_POLL_S = 0.005


def eventually(
    condition: Callable[[], object],
    *,
    within_s: float = 10.0,
    every_s: float = _POLL_S,
    detail: Callable[[], object] | None = None,
) -> None:
    """Return as soon as `condition` holds.

    Args:
        condition: is asked, and asked again.
        within_s: for how long.
        every_s: how long it is left alone in between; more where asking is work.
        detail: what is known, for the case that it never holds.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s" + (f": {detail()}" if detail else ""))
        pause.wait(every_s)
