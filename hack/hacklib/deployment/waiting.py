"""Waits for a condition, with a deadline and with words for the case that it never comes."""

import time
from collections.abc import Callable
from typing import TypeVar

from hacklib.ui import HackError

__all__ = ["Never", "wait_until"]

_T = TypeVar("_T")


class Never(HackError):
    """A probe's word that what is waited for cannot come any more."""


def wait_until(
    probe: Callable[[], _T | None], *, what: str, deadline_s: float = 30.0, detail: Callable[[], object] = lambda: ""
) -> _T:
    """The first answer of `probe` that is true; a HackError of the probe counts as not yet, unless it is Never.

    Raises HackError when the deadline has passed, or nothing can come any more: with `what` was waited for, the last answer,
    and `detail()`.
    """
    end = time.monotonic() + deadline_s
    last: object = None
    while True:
        try:
            answer = probe()
        except Never as error:
            raise Never(f"{what}: {error}\n{detail()}".rstrip()) from error
        except HackError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() > end:
            raise HackError(f"{what}: not within {deadline_s:.0f} s; last seen: {last}\n{detail()}".rstrip())
        time.sleep(0.1)
