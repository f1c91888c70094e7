"""The turns of cards outlive what makes drivers forget them, and claims hear when they do not."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_rig import Rig
from prometheus_client import CollectorRegistry, generate_latest
from unit.node.heard import Heard
from unit.node.test_modes import NAME, UUID, sliced

from hami_dra.api.opaque import Interval, Isolation
from hami_dra.core.errors import DriverError
from hami_dra.node.claim_news import ClaimNews
from hami_dra.node.time_slice_watch import TimeSliceCollector, TimeSliceWatch
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, inventory, share_result

LONG, NOTHING = {UUID: Interval.LONG}, dict[str, Interval]()


class Watched:
    """A node with two claims that take turns on a card, and who watches."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.heard = rig, Heard(DriverError)
        self.claims = [rig.claims.add(sliced("one")), rig.claims.add(sliced("two", share=2))]
        for claim in self.claims:
            rig.prepare(claim)
        self.watch = self.new()
        assert self.look() == [("one", "ready"), ("two", "ready")]

    def new(self) -> TimeSliceWatch:
        """The watch of the rig's process."""
        files, claims = self.rig.files, self.rig.claims
        news = ClaimNews(files=files, claims=claims, listener=self.heard, isolation=Isolation.TIME_SLICING)
        return TimeSliceWatch(self.rig.state.modes, news=news, group=self.rig.group)

    def start(self) -> None:
        """A new process."""
        self.rig.start()
        self.watch = self.new()

    def look(self) -> list[tuple[str, str]]:
        """What one look tells."""
        self.watch.round()
        return self.heard.take()

    def forget(self) -> None:
        """The driver is loaded anew, which nobody has seen yet."""
        self.rig.time_slices.intervals.clear()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Long turns."""
    rig = Rig(tmp_path, hardware=inventory(2))
    yield Watched(rig)
    rig.close()


def test_a_card_that_was_reset_is_told_again_and_once(watched: Watched) -> None:
    """Claims hear nothing of it; without a reset the driver is left alone."""
    watched.forget()
    assert watched.look() == []
    assert watched.rig.time_slices.intervals == NOTHING
    watched.rig.resets += 1
    assert watched.look() == []
    assert watched.rig.time_slices.intervals == LONG
    watched.forget()
    assert watched.look() == []
    assert watched.rig.time_slices.intervals == NOTHING


def test_a_new_process_tells_the_driver_again_and_once(watched: Watched) -> None:
    """It does not know what the driver was told; claims that may have heard bad news from the one before hear good ones."""
    watched.forget()
    watched.start()
    assert watched.rig.time_slices.intervals == NOTHING
    assert watched.look() == [("one", "ready"), ("two", "ready")]
    assert watched.rig.time_slices.intervals == LONG
    watched.forget()
    assert watched.look() == []
    assert watched.rig.time_slices.intervals == NOTHING


def test_each_claim_hears_once_of_a_driver_that_refuses_and_that_it_is_well_again(watched: Watched) -> None:
    """It is tried at every look; a claim that came through all the same, or left meanwhile, is no matter."""
    watched.rig.resets += 1
    watched.rig.time_slices.lost.add(UUID)
    watched.forget()
    news = dict(watched.look())
    assert set(news) == {"one", "two"}
    assert news["one"] == (
        f"claim ml/one: turns on {NAME} are not as long as it wants them, and it is tried again: {UUID} does not answer"
    )
    assert watched.look() == []
    watched.rig.unprepare(watched.claims[1])
    watched.rig.time_slices.lost.clear()
    assert watched.look() == [("one", "ready")]
    assert (watched.look(), watched.rig.time_slices.intervals) == ([], LONG)


def test_a_card_that_nobody_takes_turns_on_any_more_is_forgotten(watched: Watched) -> None:
    """Nobody tells the driver of it again, whatever becomes of the card and of guarded shares there."""
    for claim in watched.claims:
        watched.rig.unprepare(claim)
    watched.rig.prepare(watched.rig.claims.add(allocated_claim("guarded")))
    watched.forget()
    watched.rig.resets += 1
    assert (watched.look(), watched.watch.failures) == ([], {})
    assert watched.rig.time_slices.intervals == NOTHING


def test_a_claim_that_comes_while_somebody_watches_is_not_told_twice(watched: Watched) -> None:
    """Kubelet's answer was its good news; only at the start may an earlier process have said otherwise."""
    for claim in watched.claims:
        watched.rig.unprepare(claim)
    assert watched.look() == []
    watched.rig.prepare(watched.claims[0])
    assert watched.look() == []


def test_a_claim_on_its_way_out_is_not_told_to_the_driver(watched: Watched) -> None:
    """Between the default and the end of the row somebody looks: the card keeps the default."""
    watched.rig.unprepare(watched.claims[0])
    seen: list[str] = []

    def look(effect: str) -> None:
        if effect == "time_slices.set done":
            seen.append("told")
        elif seen == ["told"]:  # outside the card's lock, and once: looking has effects too
            seen.append("looked")
            watched.watch.round()

    watched.rig.on_effect = look
    watched.rig.unprepare(watched.claims[1])
    watched.rig.on_effect = None
    assert seen == ["told", "looked"]
    assert watched.rig.time_slices.intervals == {UUID: Interval.DEFAULT}


def test_a_slow_driver_delays_no_prepare_of_another_card(watched: Watched) -> None:
    """The watch waits for the driver, and nobody else does."""
    asked, go_on = threading.Event(), threading.Event()

    def slow(effect: str) -> None:
        if effect == "time_slices.set":
            asked.set()
            assert go_on.wait(30)

    watched.rig.resets += 1
    watched.rig.on_effect = slow
    watched.rig.group.spawn("watch", watched.watch.run)
    assert asked.wait(30)
    watched.rig.prepare(watched.rig.claims.add(allocated_claim("other", share_result(index=1))))
    go_on.set()
    eventually(lambda: watched.rig.time_slices.intervals == LONG)


def test_a_watch_outlives_an_api_server_that_does_not_answer(watched: Watched) -> None:
    """The driver is told all the same, and the claims at a later look."""
    watched.rig.time_slices.lost.add(UUID)
    watched.rig.resets += 1
    watched.look()
    watched.rig.time_slices.lost.clear()
    watched.forget()
    watched.rig.claims.down = True
    watched.rig.group.spawn("watch", watched.watch.run)
    eventually(lambda: watched.rig.time_slices.intervals == LONG)
    watched.rig.claims.down = False
    assert watched.look() == [("one", "ready"), ("two", "ready")]


def test_the_metric_says_whether_turns_are_as_they_should_be(watched: Watched) -> None:
    """From the first look until nobody takes turns."""
    registry = CollectorRegistry()
    registry.register(TimeSliceCollector(lambda: watched.watch.failures))

    def page() -> str:
        return generate_latest(registry).decode()

    assert f'hami_dra_time_slice_set{{device="{NAME}"}} 1.0' in page()
    watched.rig.time_slices.lost.add(UUID)
    watched.rig.resets += 1
    watched.look()
    assert f'hami_dra_time_slice_set{{device="{NAME}"}} 0.0' in page()
    for claim in watched.claims:
        watched.rig.unprepare(claim)
    watched.look()
    assert NAME not in page()
