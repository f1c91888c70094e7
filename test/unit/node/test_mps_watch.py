"""Claims hear of the end of their MPS daemon and of its return; their card takes nothing new in between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node_rig import Rig
from prometheus_client import CollectorRegistry, generate_latest
from unit.node.heard import Heard
from unit.node.test_modes import NAME, mps, shared

from hami_dra.api.opaque import Isolation
from hami_dra.core.device_health import Pulse
from hami_dra.core.errors import MpsNotReady
from hami_dra.core.mps import Answer
from hami_dra.node.claim_news import ClaimNews
from hami_dra.node.mps_sensor import MpsSensor
from hami_dra.node.mps_watch import MpsCollector, MpsWatch


class Watched:
    """A node with two claims on one daemon, and one without, and who watches."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.heard = rig, Heard(MpsNotReady)
        for claim in (mps("one", 30), mps("two", 20, share=2)):
            rig.prepare(rig.claims.add(claim))
        self.watch = self.new()
        self.watch.round()

    def new(self) -> MpsWatch:
        """The watch of a new process."""
        news = ClaimNews(files=self.rig.files, claims=self.rig.claims, listener=self.heard, isolation=Isolation.MPS)
        return MpsWatch(self.rig.files.mps, news=news, group=self.rig.group)

    def look(self) -> list[tuple[str, str]]:
        """What one look tells."""
        self.watch.round()
        return self.heard.take()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A daemon that serves."""
    rig = Rig(tmp_path)
    yield Watched(rig)
    rig.close()


def test_each_claim_hears_once_of_an_end_and_of_the_return(watched: Watched) -> None:
    """While the daemon is down nothing is repeated; before and after nothing is said."""
    assert watched.look() == []
    watched.rig.mps.end(NAME)
    news = dict(watched.look())
    assert set(news) == {"one", "two"}
    assert "was killed by signal 9" in news["one"]
    assert watched.look() == []
    watched.rig.mps.end(NAME)
    assert watched.look() == []
    watched.rig.mps.come_back(NAME)
    assert watched.look() == [("one", "ready"), ("two", "ready")]
    assert watched.look() == []


def test_an_end_between_two_looks_is_told_too(watched: Watched) -> None:
    """The programs are as dead as after a long one."""
    watched.rig.mps.end(NAME)
    watched.rig.mps.come_back(NAME)
    news = watched.look()
    assert [name for name, _ in news] == ["one", "two", "one", "two"]
    assert [said for _, said in news[2:]] == ["ready", "ready"]


def test_a_new_process_says_what_the_one_before_could_not(watched: Watched) -> None:
    """A daemon that is down is told of again; one that came back meanwhile has its claims ready again."""
    watched.rig.mps.end(NAME)
    watched.watch = watched.new()
    assert [name for name, _ in watched.look()] == ["one", "two"]
    watched.rig.mps.come_back(NAME)
    watched.watch = watched.new()
    assert watched.look() == [("one", "ready"), ("two", "ready")]


def test_a_keeper_that_is_gone_is_an_end(watched: Watched) -> None:
    """Its daemons went with it; claims that left since hear nothing."""
    watched.rig.mps.keeper = False
    assert [said for _, said in watched.look() if "hami-dra mps does not run" in said] != []
    watched.rig.mps.keeper = True
    watched.rig.state.unprepare(watched.rig.claims.claims["ml", "two"]["metadata"]["uid"])  # type: ignore[arg-type]
    assert watched.look() == [("one", "ready")]
    watched.rig.state.unprepare(watched.rig.claims.claims["ml", "one"]["metadata"]["uid"])  # type: ignore[arg-type]
    assert watched.look() == []


def test_a_watch_outlives_an_api_server_that_does_not(watched: Watched) -> None:
    """What could not be told is told when it answers."""
    watched.rig.mps.end(NAME)
    watched.look()
    watched.rig.mps.come_back(NAME)
    watched.rig.claims.down = True
    watched.rig.group.spawn("watch", watched.watch.run)
    watched.rig.claims.down = False
    from hami_dra.testing.eventually import eventually  # noqa: PLC0415

    eventually(lambda: watched.heard.news == [("one", "ready"), ("two", "ready")])


def test_metrics_come_and_go_with_the_daemon(watched: Watched) -> None:
    """Whether it takes clients, and how often it ended."""
    registry = CollectorRegistry()
    registry.register(MpsCollector(watched.rig.mps))

    def page() -> str:
        return generate_latest(registry).decode()

    assert f'hami_dra_mps_daemon_ready{{device="{NAME}"}} 1.0' in page()
    watched.rig.mps.end(NAME)
    assert f'hami_dra_mps_daemon_ready{{device="{NAME}"}} 0.0' in page()
    assert f'hami_dra_mps_daemon_ends_total{{device="{NAME}"}} 1.0' in page()
    watched.rig.mps.asked.clear()
    assert NAME not in page()


class Sound:
    """A card whose driver finds nothing wrong."""

    def faults(self) -> list[Any]:
        """Nothing happened."""
        return []

    def pulses(self, names: Any) -> dict[Any, Pulse]:
        """All are well."""
        return {name: Pulse() for name in names}


def test_a_card_without_its_daemon_takes_nothing_new(watched: Watched) -> None:
    """From a daemon's end to its return; one that never served marks no card, or anybody could by asking."""
    sensor = MpsSensor(Sound(), watched.rig.mps)

    def standing() -> list[str]:
        return [f"{fault.key}={fault.value}:{fault.effect}" for fault in sensor.pulses([NAME])[NAME].standing]

    watched.rig.mps.down[NAME] = Answer(serves=None, message="it is being started")
    assert standing() == []
    watched.rig.mps.come_back(NAME)
    assert (standing(), sensor.faults()) == ([], [])
    watched.rig.mps.end(NAME)
    assert standing() == ["mps=ended:NoSchedule"]
    assert sensor.pulses([]) == {}
    watched.rig.mps.come_back(NAME)
    assert standing() == []
    watched.rig.mps.end(NAME)
    watched.rig.mps.asked.clear()
    assert standing() == []


def test_guarded_claims_are_nobodys_business(watched: Watched, tmp_path: Path) -> None:
    """Claims without MPS on another card hear nothing of all that."""
    del tmp_path
    watched.rig.mps.end(NAME)
    assert {name for name, _ in watched.look()} == {"one", "two"}
    assert shared("other")["metadata"]["name"] == "other"
