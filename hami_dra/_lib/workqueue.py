"""A queue of keys to look at again, after client-go's workqueue.

A key that is added many times while it waits is handed out once; one that is added while a worker has it is handed out
again when that worker is done, so no key is ever worked on twice at a time and no change is missed.  Failed keys come
back after a back-off of their own.  What to do for a key is left to the handler; the queue never looks into keys.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from hami_dra._lib.threads import Group

__all__ = ["WorkQueue"]

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys that wait, keys that are worked on, keys that come back later."""

    def __init__(
        self,
        *,
        base_s: float = 0.05,
        cap_s: float = 60.0,
        clock: Clock = SYSTEM_CLOCK,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """Start empty; a key's n-th retry comes after at most `base_s * 2**n`, never more than `cap_s`."""
        self._base_s = base_s
        self._cap_s = cap_s
        self._clock = clock
        self._rand = rand
        self._condition = threading.Condition()
        self._ready: dict[K, None] = {}  # insertion order is the order of work
        self._working: set[K] = set()
        self._again: set[K] = set()  # added while worked on
        self._later: list[tuple[float, int, K]] = []  # a heap by due time
        self._due: dict[K, float] = {}  # the entry of the heap that counts for a key
        self._backoffs: dict[K, Backoff] = {}
        self._ticket = itertools.count()
        self._closed = False

    def __len__(self) -> int:
        """How many keys wait, now or for later, or are worked on."""
        with self._condition:
            return len(self._ready) + len(self._working) + len(self._due)

    def add(self, key: K) -> None:
        """Have `key` worked on soon."""
        with self._condition:
            self._add(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Have `key` worked on in `delay_s`; an earlier date that it already has stays."""
        with self._condition:
            due = self._clock.monotonic() + delay_s
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._later, (due, next(self._ticket), key))
            self._condition.notify()

    def retry(self, key: K, *, at_least_s: float = 0.0) -> float:
        """Have `key` worked on after its back-off, which grows with each call; return the delay in seconds."""
        with self._condition:
            backoff = self._backoffs.setdefault(key, Backoff(self._base_s, self._cap_s, self._rand))
            delay_s = backoff.next_s(at_least_s=at_least_s)
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """Reset the back-off of `key`: it was worked on with success, or given up."""
        with self._condition:
            self._backoffs.pop(key, None)

    def get(self, timeout_s: float | None = None) -> K | None:
        """The next key, which is the caller's until `done`; None when time is over or the queue is closed."""
        deadline = None if timeout_s is None else self._clock.monotonic() + timeout_s
        with self._condition:
            while not self._closed:
                next_due = self._promote()
                if self._ready:
                    key = next(iter(self._ready))
                    del self._ready[key]
                    self._working.add(key)
                    return key
                now = self._clock.monotonic()
                if deadline is not None and deadline <= now:
                    return None
                ends = [moment for moment in (deadline, next_due) if moment is not None]
                self._clock.wait(self._condition, min(ends) - now if ends else None)
            return None

    def done(self, key: K) -> None:
        """Hand `key` back; it waits again if it was added meanwhile."""
        with self._condition:
            self._working.discard(key)
            if key in self._again:
                self._again.remove(key)
                self._add(key)

    def close(self) -> None:
        """Let every `get` return None from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def run(
        self,
        group: Group,
        handler: Callable[[K], None],
        *,
        name: str,
        workers: int = 1,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (),
        on_error: Callable[[K, Exception], float | None] = lambda _key, _error: 0.0,
    ) -> None:
        """Work on the keys in `workers` threads of `group` until it stops.

        Args:
            group: whose stop closes the queue.
            handler: brings the world of one key into order.
            name: of the threads, `<group>/<name>-<i>`.
            workers: how many keys are worked on at once.
            retry_on: errors after which a key may come back; any other stops the group.
            on_error: told of each such error; returns the shortest delay of the retry, or None to give the key up.
        """

        def work() -> None:
            while (key := self.get()) is not None:
                self._work_on(key, handler=handler, retry_on=retry_on, on_error=on_error)

        group.on_stop(self.close)
        for index in range(workers):
            group.spawn(f"{name}-{index}", work)

    def _work_on(
        self,
        key: K,
        *,
        handler: Callable[[K], None],
        retry_on: type[Exception] | tuple[type[Exception], ...],
        on_error: Callable[[K, Exception], float | None],
    ) -> None:
        try:
            handler(key)
        except retry_on as error:
            at_least_s = on_error(key, error)
            if at_least_s is None:
                self.forget(key)
            else:
                self.retry(key, at_least_s=at_least_s)
        else:
            self.forget(key)
        finally:
            self.done(key)

    def _add(self, key: K) -> None:
        if key in self._working:
            self._again.add(key)
        elif key not in self._ready:
            self._ready[key] = None
            self._condition.notify()

    def _promote(self) -> float | None:
        """Move what is due to the ready keys; return when the next one is due."""
        now = self._clock.monotonic()
        while self._later:
            due, _, key = self._later[0]
            if self._due.get(key) != due:
                heapq.heappop(self._later)  # superseded by an earlier date
            elif due <= now:
                heapq.heappop(self._later)
                del self._due[key]
                self._add(key)
            else:
                return due
        return None
