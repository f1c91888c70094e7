"""In which container a share is used.

Asked for when metrics are read, and found out every few seconds at most: a look at all processes costs some milliseconds.  What a
share's figures say is of all containers that ever used it, so that only a share with one of them, ever, has its name.
"""

from collections.abc import Callable, Collection, Mapping

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra.core.ids import ClaimUid, ShareKey

__all__ = ["Containers"]

_AGAIN_S = 10.0

Share = tuple[ClaimUid, ShareKey]


class Containers:
    """Remembers who used which share.  For one thread."""

    def __init__(self, look: Callable[[], Mapping[Share, Collection[str]]], *, clock: Clock = SYSTEM_CLOCK) -> None:
        """`look` says who uses which share now."""
        self._look = look
        self._clock = clock
        self._looked_s = float("-inf")
        self._seen: dict[Share, set[str]] = {}
        self._asked: set[Share] = set()

    def name(self, uid: ClaimUid, key: ShareKey) -> str:
        """The container that uses the share; empty where nobody can tell, or several have used it."""
        if self._clock.monotonic() - self._looked_s >= _AGAIN_S:
            self._refresh()
        self._asked.add((uid, key))
        seen = self._seen.get((uid, key), set())
        return next(iter(seen)) if len(seen) == 1 else ""

    def _refresh(self) -> None:
        now = self._look()
        kept = {share: seen for share, seen in self._seen.items() if share in self._asked}
        self._seen = {share: kept.get(share, set()) | set(now.get(share, ())) for share in {*kept, *now}}
        self._asked = set()
        self._looked_s = self._clock.monotonic()
