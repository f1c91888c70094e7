"""Electing a leader."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject
from hami_dra.core.errors import ApiUnavailable
from hami_dra.kube.leases import Elector, LeaseTimes
from hami_dra.kube.transport import Response, Stream, Transport
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually


class Link:
    """A candidate's own connection to the server."""

    def __init__(self, server: FakeApiServer) -> None:
        self._server = server
        self.cut = False

    def request(self, method: str, path: str, **rest: Any) -> Response:
        """Pass it on, unless cut."""
        if self.cut:
            raise ApiUnavailable("cut")
        return self._server.request(method, path, **rest)

    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> AbstractContextManager[Stream]:
        """Not for electors."""
        raise AssertionError(path, query, timeout_s)


class Candidate:
    """An elector and what it was told, on one clock."""

    def __init__(self, server: Transport, identity: str, clock: FakeClock) -> None:
        self.told: list[str] = []
        self.group = Group(identity, clock=clock)
        self.elector = Elector(
            server, namespace="hami", name="controller", identity=identity, clock=clock, rand=lambda: 0.0
        )

    def start(self) -> None:
        """Become a candidate."""
        self.elector.start(
            self.group, on_started=lambda: self.told.append("start"), on_stopped=lambda: self.told.append("stop")
        )


def holder(server: FakeApiServer) -> str:
    """Who holds the lease."""
    leases = server.objects("Lease")
    return str(leases[0]["spec"]["holderIdentity"]) if leases else ""


@contextmanager
def candidates(server: Transport, clock: FakeClock, *names: str) -> Iterator[list[Candidate]]:
    """Started candidates, ended at the end."""
    made = [Candidate(server, name, clock) for name in names]
    try:
        yield made
    finally:
        for one in made:
            one.group.stop()
        for one in made:
            one.group.join(5)


def renewals(server: FakeApiServer) -> int:
    """How often the lease was written."""
    return sum(r.method in {"PUT", "POST"} for r in server.requests)


def advance_until(clock: FakeClock, condition: Callable[[], bool], *, limit_s: float = 120) -> float:
    """Move the clock in small steps until the condition holds; returns the seconds that took."""
    began = clock.monotonic()
    while not condition():
        assert clock.monotonic() - began < limit_s
        waits = len(clock.waits)
        clock.advance(0.5)
        eventually(lambda waits=waits: len(clock.waits) > waits)  # type: ignore[misc]  # mypy cannot infer defaults
    return clock.monotonic() - began


def test_the_first_candidate_leads_and_renews() -> None:
    """A lease that does not exist is created; its holder is told once and renews every two seconds."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        first = server.objects("Lease")[0]["spec"]
        advance_until(clock, lambda: renewals(server) >= 4)
        assert a.elector.leading
        last = server.objects("Lease")[0]["spec"]
    assert (first["holderIdentity"], first["leaseDurationSeconds"], first["leaseTransitions"]) == ("a", 15, 0)
    assert last["acquireTime"] == first["acquireTime"]
    assert last["renewTime"] > first["renewTime"]
    assert a.told == ["start", "stop"]


def test_stopping_gives_the_lease_back() -> None:
    """After an orderly end the next candidate does not wait for the lease to expire."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a", "b") as (a, b):
        a.start()
        eventually(lambda: a.told == ["start"])
        a.group.stop()
        a.group.join(5)
        assert (holder(server), a.told, a.elector.leading) == ("", ["start", "stop"], False)
        b.start()
        eventually(lambda: b.told == ["start"])
    assert server.objects("Lease")[0]["spec"]["leaseTransitions"] == 1


def test_a_candidate_waits_until_it_has_seen_no_change_for_the_lease() -> None:
    """The times in the record count for nothing: its writer's clock may be years off."""
    server, clock = FakeApiServer(), FakeClock()
    server.add(lease(holder="gone", renewed="2001-01-01T00:00:00.000000Z"))
    with candidates(server, clock, "b") as (b,):
        b.start()
        took_s = advance_until(clock, lambda: b.told == ["start"])
    assert 15 <= took_s <= 20


def test_a_candidate_never_leads_while_the_holder_renews() -> None:
    """As long as the record changes, others stay away, whatever the times in it say."""
    server, clock = FakeApiServer(), FakeClock()
    record = server.add(lease(holder="other", renewed="2001-01-01T00:00:00.000000Z"))
    with candidates(server, clock, "b") as (b,):
        b.start()
        for step in range(10):
            asked = len(server.requests)
            advance_until(clock, lambda asked=asked: len(server.requests) > asked)  # type: ignore[misc]  # mypy cannot infer defaults
            record["spec"]["renewTime"] = f"2001-01-01T00:00:{step:02}.000000Z"
            server.change(record)
        assert b.told == []


def test_a_leader_that_cannot_renew_steps_down_before_anybody_can_follow() -> None:
    """With the API server away, leading ends within the renew deadline, which is shorter than the lease."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        server.outage()
        took_s = advance_until(clock, lambda: a.told == ["start", "stop"])
        assert took_s <= 13
        assert not a.elector.leading
        assert holder(server) == "a"
        server.recover()
        advance_until(clock, lambda: a.told == ["start", "stop", "start"])


def test_a_short_outage_does_not_cost_the_lead() -> None:
    """Failed renewals are repeated until the deadline."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        server.fail_next(3, 500, method="PUT")
        advance_until(clock, lambda: renewals(server) >= 6)
        assert a.told == ["start"]


def test_a_leader_whose_lease_was_taken_steps_down_at_once() -> None:
    """Somebody who edits the record by force ends the lead at the next look."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        record = server.objects("Lease")[0]
        record["spec"]["holderIdentity"] = "usurper"
        server.change(record)
        assert advance_until(clock, lambda: a.told == ["start", "stop"]) <= 6
        assert holder(server) == "usurper"


def test_a_renewal_whose_answer_was_lost_does_not_cost_the_lead() -> None:
    """If our own write made the version that we conflict with, we look again and go on."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        record = server.objects("Lease")[0]
        record["spec"]["renewTime"] = "2026-01-01T00:00:59.000000Z"
        server.change(record)
        written = renewals(server)
        advance_until(clock, lambda: renewals(server) >= written + 3)
        assert a.told == ["start"]


def test_a_deleted_lease_is_made_again_by_its_leader() -> None:
    """Kubectl delete lease does not end the lead of a healthy leader."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        server.remove(server.objects("Lease")[0])
        advance_until(clock, lambda: holder(server) == "a")
        assert a.told == ["start"]


def test_two_candidates_never_lead_at_once() -> None:
    """When the leader loses its connection the other one takes over, and there is no moment at which both lead."""
    server, clock = FakeApiServer(), FakeClock()
    link = Link(server)
    with candidates(server, clock, "b") as (b,), candidates(link, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        b.start()
        eventually(lambda: len(server.requests) > 2)
        link.cut = True
        both = []

        def switched() -> bool:
            both.append(a.elector.leading and b.elector.leading)
            return b.told == ["start"]

        took_s = advance_until(clock, switched)
        assert 14 <= took_s <= 20
        assert a.told == ["start", "stop"]
    assert not any(both)


def test_a_failing_start_gives_the_lease_back() -> None:
    """Whoever cannot begin to lead does not keep others from it."""
    server, clock = FakeApiServer(), FakeClock()
    group = Group("a", clock=clock)
    elector = Elector(server, namespace="hami", name="controller", identity="a", clock=clock)

    def fail() -> None:
        raise ZeroDivisionError

    elector.start(group, on_started=fail, on_stopped=lambda: None)
    eventually(lambda: group.error is not None)
    assert holder(server) == ""


def test_a_lease_that_cannot_be_given_back_is_no_error() -> None:
    """With the API server away at the end, the lease simply expires."""
    server, clock = FakeApiServer(), FakeClock()
    with candidates(server, clock, "a") as (a,):
        a.start()
        eventually(lambda: a.told == ["start"])
        server.outage()
    assert holder(server) == "a"


@pytest.mark.parametrize("times", [(10, 10, 2), (15, 10, 10), (15, 10, 0)])
def test_times_that_allow_two_leaders_are_refused(times: tuple[float, float, float]) -> None:
    """The lease outlasts the renew deadline, which outlasts the retry."""
    with pytest.raises(ValueError, match="need lease > renew deadline > retry"):
        LeaseTimes(*times)


def lease(*, holder: str, renewed: str) -> JsonObject:
    """A Lease as another process would have left it."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "controller", "namespace": "hami"},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "acquireTime": renewed,
            "renewTime": renewed,
            "leaseTransitions": 3,
        },
    }
