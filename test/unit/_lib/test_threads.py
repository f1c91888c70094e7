"""Groups of threads."""

import threading

import pytest

from hami_dra._lib.threads import Group, GroupFailedError
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually


class Boom(Exception):
    """What a thread dies of."""


def _boom() -> None:
    raise Boom("no memory")


def test_the_first_error_stops_the_group_with_its_cause() -> None:
    """When one thread raises, the others are told to stop and join says which one failed and why."""
    group = Group("node")
    group.spawn("watcher", group.wait)
    group.spawn("worker", _boom)
    assert group.wait(5)
    with pytest.raises(GroupFailedError, match="thread node/worker failed: no memory") as raised:
        group.join(5)
    assert isinstance(raised.value.__cause__, Boom)
    assert isinstance(group.error, Boom)


def test_a_later_error_does_not_hide_the_first() -> None:
    """What is reported is the cause, not what broke because of it."""
    late = Group("other")

    def follow() -> None:
        late.wait()
        raise ValueError("consequence")

    late.spawn("consequence", follow)
    late.spawn("cause", _boom)
    with pytest.raises(GroupFailedError, match="other/cause"):
        late.join(5)


def test_threads_carry_the_names_of_their_group() -> None:
    """A thread is known as <group>/<name> in logs and debuggers."""
    names: list[str] = []
    with Group("controller") as group:
        group.spawn("resolver", lambda: names.append(threading.current_thread().name))
        eventually(lambda: names)
    assert names == ["controller/resolver"]


def test_leaving_the_block_stops_and_joins() -> None:
    """After the with statement no thread of the group is left."""
    ended: list[int] = []

    def work() -> None:
        group.wait()
        ended.append(1)

    with Group("g") as group:
        group.spawn("a", work)
        group.spawn("b", work)
    assert ended == [1, 1]


def test_an_error_of_the_block_goes_before_one_of_the_threads() -> None:
    """What the block raised is not replaced by what its threads made of being stopped."""

    def block() -> None:
        with Group("g") as group:
            group.spawn("a", _boom)
            group.wait(5)
            raise KeyError

    with pytest.raises(KeyError):
        block()


def test_a_thread_that_does_not_end_is_named() -> None:
    """Join with a deadline says who is stuck instead of hanging."""
    release = threading.Event()
    group = Group("g")
    group.spawn("stuck", release.wait)
    group.stop()
    with pytest.raises(TimeoutError, match="g/stuck"):
        group.join(0.05)
    release.set()
    group.join(5)


def test_nothing_starts_in_a_stopping_group() -> None:
    """A spawn that loses the race against stop does nothing."""
    group = Group("g")
    group.stop()
    group.spawn("late", _boom)
    group.join(1)


def test_an_event_wakes_its_waiters_and_so_does_the_stop() -> None:
    """A wait on an event of the group says whether the event came; a stop ends it without."""
    got: list[bool] = []
    with Group("g") as group:
        first, second = group.event(), group.event()
        group.spawn("first", lambda: got.append(first.wait(10)))
        first.set()
        eventually(lambda: got == [True])
        group.spawn("second", lambda: got.append(second.wait(None)))
    assert got == [True, False]
    first.clear()
    assert not first.is_set()


def test_a_wait_ends_at_its_deadline_by_the_clock_of_the_group() -> None:
    """Waiting ten minutes takes no time when the clock is a test's."""
    clock = FakeClock(jumps=True)
    group = Group("g", clock=clock)
    assert not group.wait(600)
    assert not group.event().wait(600)
    assert clock.waits == [600, 600]


def test_callbacks_run_once_at_the_stop_unless_withdrawn() -> None:
    """A blocking read is broken by the stop; one that is over is left alone; a stopped group calls at once."""
    called: list[str] = []
    group = Group("g")
    group.on_stop(lambda: called.append("kept"))
    group.on_stop(lambda: called.append("withdrawn"))()
    group.stop()
    group.stop()
    group.on_stop(lambda: called.append("late"))()
    assert called == ["kept", "late"]


def test_a_thread_may_join_its_own_group() -> None:
    """A service that tears its group down from inside does not wait for itself."""
    done: list[int] = []
    group = Group("g")

    def tear_down() -> None:
        group.stop()
        group.join(5)
        done.append(1)

    group.spawn("self", tear_down)
    eventually(lambda: done)
