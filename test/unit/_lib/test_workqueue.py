"""The queue of keys."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra._lib.threads import Group, GroupFailedError
from hami_dra._lib.workqueue import WorkQueue
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually


class TransientError(Exception):
    """Worth another try."""


def test_a_key_added_twice_is_handed_out_once() -> None:
    """Ten changes of one object before a worker looks are one piece of work."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert [queue.get(0), queue.get(0), queue.get(0)] == ["a", "b", None]


def test_a_key_added_while_worked_on_comes_back_when_done() -> None:
    """A change during the work is not lost, and nobody else gets the key meanwhile."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert queue.get(0) == "a"
    queue.add("a")
    assert queue.get(0) is None
    queue.done("a")
    assert queue.get(0) == "a"
    queue.done("a")
    assert len(queue) == 0


def test_a_later_key_comes_when_it_is_due() -> None:
    """add_after hands out at its time; the earlier of two dates counts."""
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock=clock)
    queue.add_after("a", 10)
    queue.add_after("a", 5)
    queue.add_after("a", 20)
    assert queue.get(0) is None
    clock.advance(5)
    assert queue.get(0) == "a"
    queue.done("a")
    clock.advance(60)
    assert queue.get(0) is None


def test_get_waits_no_longer_than_the_next_key_is_due() -> None:
    """A worker with a long time-out wakes up for a delayed key."""
    queue: WorkQueue[str] = WorkQueue(clock=FakeClock(jumps=True))
    queue.add_after("a", 5)
    assert queue.get(600) == "a"


def test_each_key_has_a_back_off_of_its_own() -> None:
    """Delays of a failing key double up to the cap, other keys are not affected, success resets."""
    queue: WorkQueue[str] = WorkQueue(base_s=1, cap_s=4, rand=lambda: 0.5)
    assert [queue.retry("a") for _ in range(4)] == [0.5, 1, 2, 2]
    assert queue.retry("b") == 0.5
    queue.forget("a")
    assert queue.retry("a") == 0.5
    assert queue.retry("c", at_least_s=3) == 3.5


def test_workers_handle_every_key_and_retry_what_failed() -> None:
    """A handler that fails transiently is called again for the same key until it works."""
    clock = FakeClock(jumps=True)
    queue: WorkQueue[int] = WorkQueue(clock=clock)
    calls: list[int] = []

    def handle(key: int) -> None:
        calls.append(key)
        if key == 7 and calls.count(7) < 4:
            raise TransientError

    with Group("g", clock=clock) as group:
        queue.run(group, handle, name="w", workers=3, retry_on=TransientError)
        for key in range(10):
            queue.add(key)
        eventually(lambda: calls.count(7) == 4 and len(queue) == 0)
    assert sorted(set(calls)) == list(range(10))


def test_a_handler_can_give_a_key_up() -> None:
    """When on_error returns None the key does not come back."""
    queue: WorkQueue[str] = WorkQueue(clock=FakeClock(jumps=True))
    seen: list[str] = []

    def fail(key: str) -> None:
        seen.append(key)
        raise TransientError

    with Group("g") as group:
        queue.run(group, fail, name="w", retry_on=TransientError, on_error=lambda _key, _error: None)
        queue.add("a")
        eventually(lambda: seen and len(queue) == 0)
    assert seen == ["a"]


def test_an_unexpected_error_of_a_handler_stops_the_group() -> None:
    """A bug in a handler ends the process instead of being retried for ever."""
    queue: WorkQueue[str] = WorkQueue()

    def bug(_key: str) -> None:
        raise ZeroDivisionError

    group = Group("g")
    queue.run(group, bug, name="w", workers=2, retry_on=TransientError)
    queue.add("a")
    with pytest.raises(GroupFailedError, match="g/w-"):
        group.join(5)


@given(adds=st.lists(st.integers(0, 4), max_size=40))
def test_no_key_is_worked_on_twice_at_a_time_and_none_is_lost(adds: list[int]) -> None:
    """With several workers, each added key is handled after its last add, by one worker at a time."""
    queue: WorkQueue[int] = WorkQueue()
    lock = threading.Lock()
    busy: set[int] = set()
    overlaps: list[int] = []
    generation = dict.fromkeys(range(5), 0)
    handled = dict.fromkeys(range(5), 0)

    def handle(key: int) -> None:
        with lock:
            if key in busy:
                overlaps.append(key)
            busy.add(key)
            seen = generation[key]
        with lock:
            handled[key] = seen
            busy.discard(key)

    with Group("g") as group:
        queue.run(group, handle, name="w", workers=3)
        for key in adds:
            with lock:
                generation[key] += 1
            queue.add(key)
        eventually(lambda: len(queue) == 0)
    assert not overlaps
    assert handled == generation
