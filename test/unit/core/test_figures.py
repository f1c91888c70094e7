"""Figures about processes as figures about shares."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.core.arbiter import Truth
from hami_dra.core.figures import Figures, Watch, Window, attribute, watch

OWNERS = {1: ["a"], 2: ["b", "a"], 3: ["elsewhere"]}
SAMPLE_US = 166_667
WHOLE = Window(over_s=0.5, covered=1.0)


def owner(pid: int) -> list[str]:
    """Whose process it is."""
    return OWNERS.get(pid, [])


def test_processes_of_a_share_add_up() -> None:
    """A process with two shares of the card counts for the first; who has none counts among the others."""
    busy = {1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.5}
    truth = attribute(busy, WHOLE, owner=owner, shares=["a", "b"])
    assert truth == Truth(over_s=0.5, busy={"a": 0.375}, others=0.5625)


def test_more_than_a_whole_card_is_a_whole_card() -> None:
    """Processes that run at the same time add up to more."""
    truth = attribute(dict.fromkeys((1, 2, 3, 4), 0.75), WHOLE, owner=owner, shares=["a"])
    assert (truth.busy, truth.others) == ({"a": 1.0}, 1.0)


def test_silence_between_samples_counts() -> None:
    """Half of the window was sampled, so 40 percent of that is 20 of it all."""
    truth = attribute({1: 0.4}, Window(over_s=1.0, covered=0.5), owner=owner, shares=["a"])
    assert truth.busy == {"a": pytest.approx(0.2)}


def test_the_first_word_is_only_a_beginning() -> None:
    """Nobody knows what time the driver's first samples stand for; and before them there is nothing at all."""
    assert watch(Watch(), None, now_s=5.0) == (Watch(), None)
    begun, window = watch(Watch(), Figures(at_us=7, periods=3, busy={}), now_s=5.0)
    assert (begun.at_us, begun.asked_s, window) == (7, 5.0, None)


def test_a_gap_of_minutes_begins_anew() -> None:
    """Nobody asked meanwhile, so nobody knows."""
    books, window = watch(Watch(at_us=0), Figures(at_us=60_000_000, periods=1, busy={}), now_s=60.0)
    assert (books.at_us, window) == (60_000_000, None)


def test_a_driver_that_samples_once_a_second_is_understood() -> None:
    """Its samples stand for a second each, and its pauses are no silence."""
    books = Watch(at_us=0)
    for second in range(1, 5):
        assert watch(books, None, now_s=second - 0.3)[1] is None
        books, window = watch(books, Figures(at_us=second * 1_000_000, periods=1, busy={}), now_s=float(second))
        assert window == Window(over_s=1.0, covered=1.0)


@given(pattern=st.lists(st.integers(0, 100), min_size=30, max_size=120), poll_ms=st.integers(60, 400))
def test_every_second_is_counted_once(pattern: list[int], poll_ms: int) -> None:
    """Whatever sleeps between samples, and however often the driver is asked: booked GPU time is the time that was sampled."""
    pattern = [50, 50, 50, 50, *pattern, 50, 50]  # the period is learned where two samples follow each other
    books, since_us, booked, over = Watch(), 0, 0.0, 0.0
    begun: float | None = None
    for now_ms in range(poll_ms, len(pattern) * 167 + poll_ms, poll_ms):
        samples = {
            (index + 1) * SAMPLE_US: percent
            for index, percent in enumerate(pattern)
            if percent and since_us < (index + 1) * SAMPLE_US <= now_ms * 1000
        }
        figures = None
        if samples:
            figures = Figures(
                at_us=max(samples), periods=len(samples), busy={1: sum(samples.values()) / 100 / len(samples)}
            )
        before, books = books, watch(books, figures, now_s=now_ms / 1000)[0]
        window = watch(before, figures, now_s=now_ms / 1000)[1]
        since_us = books.at_us or 0
        if begun is None and books.at_us is not None:
            begun = books.at_us / 1e6
        if window is not None:
            booked += (figures.busy[1] if figures else 0.0) * window.covered * window.over_s
            over += window.over_s
    assert begun is not None
    sampled = sum(p / 100 * SAMPLE_US / 1e6 for i, p in enumerate(pattern) if (i + 1) * SAMPLE_US / 1e6 > begun)
    assert booked == pytest.approx(sampled, rel=0.25, abs=0.4)
    assert over == pytest.approx(since_us / 1e6 - begun, rel=0.35, abs=0.8)
