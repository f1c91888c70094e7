"""Claims that kubelet forgot: released by the API server's word alone, twice said, and never under a living process."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from node_rig import Facts, Rig

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.errors import ApiUnavailable, Forbidden, HamiDraError, NotFound
from hami_dra.node.stale import StaleClaims
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.gpus import POOL, allocated_claim, share_result

SHARE = "6b0f2a6e-0000-4000-8000-000000000001"
GRACE_S = 600.0
NOTHING = Facts(shares=set(), cdi=set(), ledger={})


@dataclass
class World:
    """A node with one prepared claim, and who looks for forgotten ones."""

    rig: Rig
    clock: FakeClock = field(default_factory=FakeClock)
    released: int = 0
    answer: Callable[[], ResourceClaim] | None = None
    """What the API server says instead of what it holds."""

    def __post_init__(self) -> None:
        self.train = self.rig.claims.add(reserved(allocated_claim()))
        self.rig.prepare(self.train)
        self.prepared = self.rig.facts()
        self.stale = StaleClaims(
            claims=self,
            state=self.rig.state,
            files=self.rig.files,
            pool=POOL,
            released=self._count,
            clock=self.clock,
        )

    def get(self, *, namespace: str, name: str) -> ResourceClaim:
        """One claim, as the API server tells it."""
        return self.answer() if self.answer else self.rig.claims.get(namespace=namespace, name=name)

    def replace(self, claim: ResourceClaim) -> None:
        """What the API server holds from now on."""
        self.rig.claims.claims["ml", "train"] = claim

    def delete(self) -> None:
        """The claim is gone."""
        del self.rig.claims.claims["ml", "train"]

    def look_twice(self) -> Facts:
        """What lies on the node after two looks, the grace period apart."""
        self.stale.look()
        self.clock.advance(GRACE_S)
        self.stale.look()
        return self.rig.facts()

    def _count(self) -> None:
        self.released += 1


def reserved(claim: ResourceClaim, *pods: str) -> ResourceClaim:
    """The claim as long as pods use it."""
    status = cast("dict[str, Any]", claim["status"])
    users = [{"resource": "pods", "name": pod, "uid": f"{pod}-uid"} for pod in pods or ("train-pod",)]
    return cast("ResourceClaim", {**claim, "status": {**status, "reservedFor": users}})


def unreserved(claim: ResourceClaim) -> ResourceClaim:
    """The claim after its last pod."""
    status = {name: value for name, value in claim["status"].items() if name != "reservedFor"}
    return cast("ResourceClaim", {**claim, "status": status})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """One prepared claim."""
    rig = Rig(tmp_path)
    yield World(rig)
    rig.close()


def test_a_claim_in_use_is_left_alone(world: World) -> None:
    """A claim that is allocated here and reserved for a pod stays, however long it is looked at."""
    for _ in range(3):
        assert world.look_twice() == world.prepared
    assert world.released == 0


def test_a_deleted_claim_is_released_after_the_grace_period(world: World) -> None:
    """Not when it is first missed, not a second before its time, and then wholly."""
    world.delete()
    world.stale.look()
    world.clock.advance(GRACE_S - 1)
    world.stale.look()
    assert world.rig.facts() == world.prepared
    world.clock.advance(1)
    world.stale.look()
    assert world.rig.facts() == NOTHING
    assert world.released == 1
    world.stale.look()
    assert world.released == 1


@pytest.mark.parametrize(
    "claim",
    [
        reserved(allocated_claim(uid="new-uid")),
        unreserved(allocated_claim()),
        reserved(allocated_claim("train", share_result() | {"pool": "node-2/gpu"})),
        reserved(allocated_claim("train", share_result() | {"driver": "nic.example.com"})),
    ],
    ids=["another UID", "reserved for nobody", "allocated on another node", "not allocated by this driver"],
)
def test_a_claim_that_nobody_can_use_here_is_released(world: World, claim: ResourceClaim) -> None:
    """Whatever the reason is that no pod of this node can use what is prepared."""
    world.replace(claim)
    assert world.look_twice() == NOTHING


@pytest.mark.parametrize(
    "error",
    [
        ApiUnavailable("GET claim: connection refused"),
        Forbidden("GET claim: 403 Forbidden"),
        NotFound("GET claim: 404: the server could not find the requested resource", of_object=False),
    ],
    ids=["no answer", "no permission", "claims are not served"],
)
def test_an_api_server_that_cannot_tell_releases_nothing(world: World, error: HamiDraError) -> None:
    """An outage of an hour, lost rights and an API server without the API are no word about the claim."""

    def fail() -> ResourceClaim:
        raise error

    world.delete()
    world.stale.look()
    world.answer = fail
    for _ in range(12):
        world.clock.advance(GRACE_S / 2)
        with pytest.raises(type(error)):
            world.stale.look()
    assert world.rig.facts() == world.prepared
    world.answer = None
    world.stale.look()
    assert world.rig.facts() == NOTHING


def test_a_claim_that_comes_back_gets_its_time_again(world: World) -> None:
    """What counts is that nobody could use it for the whole of the grace period."""
    world.replace(unreserved(allocated_claim()))
    world.stale.look()
    world.clock.advance(GRACE_S - 1)
    world.replace(reserved(allocated_claim()))
    world.stale.look()
    world.replace(unreserved(allocated_claim()))
    world.clock.advance(1)
    world.stale.look()
    assert world.rig.facts() == world.prepared


def test_a_claim_whose_files_are_in_use_is_not_released(world: World) -> None:
    """A force-deleted pod on a node without kubelet goes on computing: its share of the card is not given away under it."""
    world.delete()
    world.rig.in_use = {world.train.uid}
    assert world.look_twice() == world.prepared
    world.rig.in_use = set()
    world.stale.look()
    assert world.rig.facts() == NOTHING


def test_a_claim_that_changes_at_the_last_moment_is_left_alone(world: World) -> None:
    """The last word is asked for under the claim's lock: a pod that came just now keeps what it was given."""
    world.replace(unreserved(allocated_claim()))
    world.stale.look()
    world.clock.advance(GRACE_S)
    answers = [unreserved(allocated_claim()), reserved(allocated_claim())]
    world.answer = lambda: answers.pop(0)
    world.stale.look()
    assert world.rig.facts() == world.prepared


def test_a_claim_somebody_works_on_is_left_alone(world: World) -> None:
    """Kubelet's own call goes first; the next look sees what it made of it."""
    world.delete()
    world.stale.look()
    world.clock.advance(GRACE_S)
    with world.rig.state._locks.hold(world.train.uid):
        world.stale.look()
    assert world.rig.facts() == world.prepared


def test_unprepared_claims_are_forgotten(world: World) -> None:
    """A claim that kubelet did unprepare is not remembered, so that preparing it again starts anew."""
    world.delete()
    world.stale.look()
    world.rig.unprepare(world.train)
    world.stale.look()
    assert not world.stale._since


def test_looks_are_spread_and_go_on_after_a_failure(world: World) -> None:
    """Nodes wait for different times, and one look without an answer does not end them."""
    waits: list[float] = []

    class Stopping(Group):
        def wait(self, timeout_s: float | None = None) -> bool:
            waits.append(timeout_s or 0.0)
            return len(waits) > 2

    def fail() -> ResourceClaim:
        raise ApiUnavailable("GET claim: connection refused")

    world.answer = fail
    rolls = iter((0.0, 1.0, 0.5))
    world.stale.run(Stopping("stale"), rand=lambda: next(rolls))
    assert waits == [300.0, 900.0, 600.0]
