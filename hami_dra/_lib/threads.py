"""Threads that cannot die unnoticed.

The only place of the house that makes threads.  Each belongs to a named `Group`; the first one that raises stops its
group, and `join` raises with that cause, so that a process never runs on with half of its parts.  What to do about a
failed group is left to the composition root: it ends the process.
Invariant: once `stop` was called, every wait of the group returns and no new thread starts.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Event", "Group", "GroupFailedError"]


class GroupFailedError(Exception):
    """A thread of a group raised; the cause is what it raised."""


class Event:
    """A flag whose waiters wake up when their group stops as well.  Made by `Group.event`."""

    def __init__(self, group: Group, condition: threading.Condition) -> None:
        """Belong to `group`; flag changes are made under its `condition`."""
        self._group = group
        self._condition = condition
        self._flag = False

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._flag

    def set(self) -> None:
        """Raise the flag and wake every waiter."""
        with self._condition:
            self._flag = True
            self._condition.notify_all()

    def clear(self) -> None:
        """Lower the flag."""
        with self._condition:
            self._flag = False

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the flag is up, the group stops or time is over; say whether the flag is up."""
        self._group.wait_until(self.is_set, timeout_s=timeout_s)
        return self._flag


class Group:
    """Named threads that live and stop together.

    As a context manager it stops and joins at the end of the block.
    """

    def __init__(self, name: str, *, clock: Clock = SYSTEM_CLOCK, join_s: float = 10.0) -> None:
        """Start empty.  `join_s` is how long the end of a `with` block waits for the threads."""
        self.name = name
        self._clock = clock
        self._join_s = join_s
        # Re-entrant: a signal handler may call `stop` while the main thread is inside one of the waits below.
        self._condition = threading.Condition(threading.RLock())
        self._threads: list[threading.Thread] = []
        self._on_stop: list[Callable[[], None]] = []
        self._stopping = False
        self._failure: tuple[str, BaseException] | None = None

    @property
    def stopping(self) -> bool:
        """Whether the threads should return."""
        return self._stopping

    @property
    def error(self) -> BaseException | None:
        """What the first failed thread raised."""
        return self._failure[1] if self._failure else None

    def event(self) -> Event:
        """A new flag whose waiters also wake up when this group stops."""
        return Event(self, self._condition)

    def spawn(self, name: str, target: Callable[[], object]) -> None:
        """Run `target` in a thread of its own, unless the group is stopping.

        Args:
            name: unique in the group; shown as `<group>/<name>` in logs and debuggers.
            target: returns soon after `stopping` turns true.
        """
        # Daemon: a thread stuck in a library must not keep a process alive whose group has failed.
        thread = threading.Thread(target=self._run, args=(name, target), name=f"{self.name}/{name}", daemon=True)
        with self._condition:
            if self._stopping:
                return
            self._threads = [t for t in self._threads if t.is_alive()]
            self._threads.append(thread)
            thread.start()

    def on_stop(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called once when the group stops: to break a blocking read, say.

        Called at once if the group is stopping already.  Returns a function that withdraws it.
        """
        with self._condition:
            if not self._stopping:
                self._on_stop.append(callback)
                return lambda: self._withdraw(callback)
        callback()
        return lambda: None

    def stop(self) -> None:
        """Tell every thread to return.  Does not wait: see `join`."""
        with self._condition:
            self._stopping = True
            callbacks, self._on_stop = self._on_stop, []
            self._condition.notify_all()
        for callback in callbacks:
            callback()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the group stops or time is over; say whether it is stopping."""
        self.wait_until(lambda: False, timeout_s=timeout_s)
        return self._stopping

    def wait_until(self, predicate: Callable[[], bool], *, timeout_s: float | None) -> None:
        """Wait until `predicate` holds, the group stops or time is over.  An `Event` of the group wakes it up."""
        deadline = None if timeout_s is None else self._clock.monotonic() + timeout_s
        with self._condition:
            while not self._stopping and not predicate():
                left_s = None if deadline is None else deadline - self._clock.monotonic()
                if left_s is not None and left_s <= 0:
                    return
                self._clock.wait(self._condition, left_s)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the threads to end.

        Raises:
            GroupFailedError: from what the first failed thread raised.
            TimeoutError: some threads did not end in time.
        """
        stuck = self._join_all(timeout_s)
        if self._failure:
            name, error = self._failure
            message = f"thread {self.name}/{name} failed: {error}"
            raise GroupFailedError(message) from error
        if stuck:
            message = f"threads did not end within {timeout_s} s: {', '.join(stuck)}"
            raise TimeoutError(message)

    def __enter__(self) -> Self:
        """The group itself."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Stop and join; an error of the block goes before one of the threads."""
        self.stop()
        if error is None:
            self.join(self._join_s)
        else:
            self._join_all(self._join_s)

    def _run(self, name: str, target: Callable[[], object]) -> None:
        try:
            target()
        except BaseException as error:  # noqa: BLE001 - whatever ends a thread early must end its group
            with self._condition:
                if self._failure is None:
                    self._failure = (name, error)
            self.stop()

    def _join_all(self, timeout_s: float | None) -> list[str]:
        deadline = None if timeout_s is None else SYSTEM_CLOCK.monotonic() + timeout_s
        with self._condition:
            threads = [t for t in self._threads if t is not threading.current_thread()]
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline - SYSTEM_CLOCK.monotonic()))
        return [t.name for t in threads if t.is_alive()]

    def _withdraw(self, callback: Callable[[], None]) -> None:
        with self._condition:
            if callback in self._on_stop:
                self._on_stop.remove(callback)
