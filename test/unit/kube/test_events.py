"""Events: said once, counted up, and never too many."""

import pytest

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ObjectReference
from hami_dra.kube.events import EventRecorder
from hami_dra.testing.apiserver import RESET, FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually

CLAIM: ObjectReference = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "namespace": "ml",
    "name": "train",
    "uid": "u1",
}


class Recorded:
    """A recorder at work, on a clock that jumps."""

    def __init__(self, group: Group, *, jumps: bool = True) -> None:
        self.server, self.clock = FakeApiServer(), FakeClock(jumps=jumps)
        self.recorder = EventRecorder(self.server, component="hami-dra-node", host="n1", clock=self.clock)
        self.recorder.start(group)

    def say(self, message: str, regarding: ObjectReference = CLAIM) -> None:
        """Emit a warning."""
        self.recorder.emit(regarding, event_type="Warning", reason="InvalidConfig", message=message)

    def counts(self) -> dict[str, int]:
        """What the server has, by message."""
        return {event["message"]: event["count"] for event in self.server.objects("Event")}


def test_an_event_says_who_says_what_about_whom() -> None:
    """It lies in the namespace of its object, with all that kubectl describe shows."""
    with Group("g") as group:
        recorded = Recorded(group)
        recorded.say("cores: 130 is above 100")
        eventually(recorded.counts)
    event = recorded.server.objects("Event")[0]
    assert event["metadata"]["namespace"] == "ml"
    assert event["involvedObject"] == CLAIM
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "InvalidConfig", 1)
    assert event["source"] == {"component": "hami-dra-node", "host": "n1"}
    assert event["reportingComponent"] == "hami-dra-node"
    assert event["firstTimestamp"] == event["lastTimestamp"]


def test_the_same_thing_said_again_is_counted_up() -> None:
    """Twenty repetitions are one Event with a count of twenty, and few requests."""
    with Group("g") as group:
        recorded = Recorded(group, jumps=False)
        recorded.say("no")
        eventually(lambda: recorded.counts() == {"no": 1})
        for _ in range(19):
            recorded.say("no")
        recorded.clock.advance(11)
        eventually(lambda: recorded.counts() == {"no": 20})
    assert [r.method for r in recorded.server.requests] == ["POST", "PATCH"]


def test_different_messages_and_objects_are_different_events() -> None:
    """Only what is the same in every respect is counted together."""
    with Group("g") as group:
        recorded = Recorded(group)
        recorded.say("one")
        recorded.say("two")
        recorded.say("one", {**CLAIM, "name": "other", "uid": "u2"})
        eventually(lambda: len(recorded.server.objects("Event")) == 3)


def test_an_object_has_a_budget() -> None:
    """After 25 Events about one object comes one in five minutes; other objects are not affected."""
    with Group("g") as group:
        recorded = Recorded(group, jumps=False)
        for index in range(40):
            recorded.say(f"message {index}")
        recorded.say("hello", {**CLAIM, "name": "other", "uid": "u2"})
        eventually(lambda: len(recorded.counts()) == 26)
        assert recorded.recorder.dropped == 15
        recorded.clock.advance(300)
        recorded.say("later")
        eventually(lambda: "later" in recorded.counts())


def test_an_event_that_the_server_forgot_is_made_anew() -> None:
    """The API server keeps Events for an hour; counting up one that is gone makes a new one."""
    with Group("g") as group:
        recorded = Recorded(group)
        recorded.say("no")
        eventually(recorded.counts)
        recorded.server.remove(recorded.server.objects("Event")[0])
        recorded.say("no")
        eventually(lambda: recorded.counts() == {"no": 2})


@pytest.mark.parametrize("status", [RESET, 429, 503])
def test_an_unwilling_server_is_asked_again(status: int) -> None:
    """A short outage does not cost the Event."""
    with Group("g") as group:
        recorded = Recorded(group)
        recorded.server.fail_next(3, status)
        recorded.say("no")
        eventually(lambda: recorded.counts() == {"no": 1})


@pytest.mark.parametrize(("failures", "status", "requests"), [(100, 503, 8), (100, 403, 1)])
def test_an_event_that_nobody_takes_is_dropped(failures: int, status: int, requests: int) -> None:
    """Neither a long outage nor missing permission keeps the recorder busy for ever, nor stops its group."""
    with Group("g") as group:
        recorded = Recorded(group)
        recorded.server.fail_next(failures, status)
        recorded.say("no")
        eventually(lambda: recorded.recorder.dropped == 1)
    assert len(recorded.server.requests) == requests


def test_what_does_not_fit_into_the_queue_is_dropped() -> None:
    """With nobody sending, memory stays bounded."""
    recorder = EventRecorder(FakeApiServer(), component="c")
    for index in range(1100):
        about: ObjectReference = {**CLAIM, "uid": str(index)}
        recorder.emit(about, event_type="Normal", reason="R", message="m")
    assert recorder.dropped == 100


def test_events_of_cluster_wide_objects_lie_in_default() -> None:
    """As for Nodes, where everybody looks for them; overlong messages are cut at the server's limit."""
    with Group("g") as group:
        recorded = Recorded(group)
        recorded.say("é" * 2000, {"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "n1"})
        eventually(recorded.counts)
    event = recorded.server.objects("Event")[0]
    assert event["metadata"]["namespace"] == "default"
    assert len(event["message"].encode()) == 1024


def test_what_many_find_in_one_version_of_an_object_is_one_event() -> None:
    """A fleet that refuses one configuration makes one Event, which the first of them made; the next version is another."""
    with Group("g") as group:
        first = Recorded(group)
        second = EventRecorder(first.server, component="hami-dra-node", host="n2", clock=first.clock)
        second.start(group)
        about: ObjectReference = {**CLAIM, "resourceVersion": "1"}
        first.say("wrong", about)
        eventually(lambda: first.counts() == {"wrong": 1})
        before = len(first.server.requests)
        second.emit(about, event_type="Warning", reason="InvalidConfig", message="wrong")
        eventually(lambda: len(first.server.requests) > before)
        first.say("wrong", {**CLAIM, "resourceVersion": "2"})
        eventually(lambda: len(first.server.objects("Event")) == 2)
    assert second.dropped == 0
    assert {event["source"]["host"] for event in first.server.objects("Event")} == {"n1"}
