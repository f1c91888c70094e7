"""What users read in their claim's status and Events."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from node_rig import Rig, ref
from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject, ObjectReference, ResourceClaim
from hami_dra.core.errors import ApiUnavailable, CapacityExceeded
from hami_dra.kube.claims import Claims
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.service import ClaimService, Failure
from hami_dra.node.state import ClaimRef
from hami_dra.node.status import StatusWriter
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, share_result

TOO_BIG = CapacityExceeded("claim ml/train: device gpu-0000-17-00-0 has 2Gi of 80Gi free, 10Gi asked")


@dataclass
class Events:
    """Remembers Events."""

    emitted: list[tuple[str, str, str]] = field(default_factory=list)

    def emit(self, regarding: ObjectReference, *, event_type: str, reason: str, message: str) -> None:
        """Note it."""
        assert event_type == "Warning"
        self.emitted.append((f"{regarding['kind']}/{regarding['name']}", reason, message))


class World:
    """A status writer between a node and an API server."""

    def __init__(self, directory: Path) -> None:
        self.group = Group("status")
        self.server = FakeApiServer()
        self.claims = Claims(self.server)
        self.events = Events()
        self.rig = Rig(directory)
        self.writer = StatusWriter(claims=self.claims, writer=self.claims, events=self.events, limit=2, delay_s=0.0)

    def add(self, claim: ResourceClaim) -> ClaimRef:
        """A claim that both sides know."""
        stored = cast("ResourceClaim", self.server.add(cast("JsonObject", claim)))
        self.rig.claims.add(stored)
        return ref(stored)

    def start(self) -> None:
        """Write in the background."""
        self.writer.start(self.group)

    def conditions(self, claim: ClaimRef) -> list[Any]:
        """All conditions of the claim's devices."""
        status = self.claims.get(namespace=claim.namespace, name=claim.name).get("status", {})
        return [condition for device in status.get("devices", []) for condition in device.get("conditions") or []]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A writer that does not write yet."""
    world = World(tmp_path)
    yield world
    world.group.stop()
    world.group.join(10.0)
    world.rig.close()


def test_a_prepared_share_is_ready(world: World) -> None:
    """After Prepare each share's entry says Ready; a repeated Prepare writes nothing more."""
    train = world.add(allocated_claim())
    world.start()
    world.writer.prepared(world.rig.prepare(train))
    eventually(lambda: world.conditions(train))
    (condition,) = world.conditions(train)
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "True", "Prepared")
    assert condition["lastTransitionTime"]
    stored = world.claims.get(namespace="ml", name="train")
    (entry,) = stored.get("status", {}).get("devices", [])
    assert entry["shareID"] == "6b0f2a6e-0000-4000-8000-000000000001"
    world.rig.claims.add(stored)
    before = len(world.server.requests)
    world.writer.prepared(world.rig.prepare(train))
    assert len(world.server.requests) == before


def test_a_failure_is_told_to_the_claim_and_its_pods(world: World) -> None:
    """A claim that could not be prepared says why in its status and in Events, on the pods too."""
    train = world.add(allocated_claim())
    world.start()
    world.writer.failed(train, TOO_BIG)
    eventually(lambda: world.conditions(train))
    (condition,) = world.conditions(train)
    assert (condition["status"], condition["reason"]) == ("False", "CapacityExceeded")
    assert condition["message"] == str(TOO_BIG)
    assert world.events.emitted == [
        ("ResourceClaim/train", "CapacityExceeded", str(TOO_BIG)),
        ("Pod/train-pod", "CapacityExceeded", str(TOO_BIG)),
    ]
    world.writer.prepared(world.rig.prepare(train))
    eventually(lambda: world.conditions(train)[0]["status"] == "True")


def test_an_overlap_is_refused_where_everybody_looks(world: World) -> None:
    """What would exceed a card is refused to kubelet, in the claim's condition, and in Events on the claim and on its pod."""
    service = ClaimService(state=world.rig.state, listener=world.writer, metrics=NodeMetrics(CollectorRegistry()))
    holder = world.add(allocated_claim("holder", share_result(memory_gib=60)))
    late = world.add(allocated_claim("late", share_result(share_id="share-of-late", memory_gib=40)))
    assert not isinstance(service.prepare([holder])[holder.uid], Failure)
    answer = service.prepare([late])[late.uid]
    assert isinstance(answer, Failure)
    assert answer.endswith("20Gi of 80Gi free, 40Gi asked; the rest is held by ml/holder (CapacityExceeded)")
    world.start()
    eventually(lambda: world.conditions(late))
    (condition,) = world.conditions(late)
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "False", "CapacityExceeded")
    assert condition["message"] in answer
    told = [(about, reason) for about, reason, _ in world.events.emitted]
    assert told == [("ResourceClaim/late", "CapacityExceeded"), ("Pod/late-pod", "CapacityExceeded")]
    service.close()


def test_the_api_servers_own_failures_are_not_told_to_it(world: World) -> None:
    """An Event about an API server that does not answer would not arrive either."""
    world.writer.failed(world.add(allocated_claim()), ApiUnavailable("503"))
    world.start()
    assert world.events.emitted == []
    assert not world.writer._news


def test_an_outage_delays_the_condition(world: World) -> None:
    """What could not be written is written when the API server is back."""
    train = world.add(allocated_claim())
    world.server.fail_next(2, 503, method="PATCH")
    world.start()
    world.writer.prepared(world.rig.prepare(train))
    eventually(lambda: world.conditions(train))


def test_a_claim_that_is_gone_is_forgotten(world: World) -> None:
    """News of a deleted claim, and of one that was replaced, end without an error."""
    train = world.add(allocated_claim())
    prepared = world.rig.prepare(train)
    world.server.remove(world.server.objects("ResourceClaim")[0])
    world.start()
    world.writer.prepared(prepared)
    world.writer.failed(ref(allocated_claim("never")), TOO_BIG)
    eventually(lambda: not world.writer._news)
    assert world.events.emitted == []


def test_news_are_bounded_and_dropped_with_the_claim(world: World) -> None:
    """Beyond the limit news are counted and dropped; an unprepared claim has none."""
    for name in ("a", "b", "c"):
        world.writer.failed(ref(allocated_claim(name)), TOO_BIG)
    assert world.writer.dropped == 1
    world.writer.unprepared(ref(allocated_claim("a")))
    world.writer.failed(ref(allocated_claim("c")), TOO_BIG)
    assert world.writer.dropped == 1


def test_good_news_of_a_burst_wait_for_its_end(tmp_path: Path) -> None:
    """Nothing is written while claims are still being prepared, unless that never ends; failures do not wait."""
    clock = FakeClock()
    server = FakeApiServer()
    claims = Claims(server)
    writer = StatusWriter(claims=claims, writer=claims, events=Events(), clock=clock)
    rig = Rig(tmp_path)

    def prepare(name: str) -> None:
        share = share_result(share_id=f"share-of-{name}", memory_gib=1, cores=0)
        stored = server.add(cast("JsonObject", allocated_claim(name, share)))
        writer.prepared(rig.prepare(rig.claims.add(cast("ResourceClaim", stored))))

    def written() -> int:
        while (uid := writer._queue.get(timeout_s=0.0)) is not None:
            writer._write(uid)
            writer._queue.done(uid)
        return sum(request.method == "PATCH" for request in server.requests)

    prepare("first")
    for name in ("second", "third"):
        clock.advance(0.9)
        prepare(name)
        clock.advance(0.2)
        assert written() == 0
    clock.advance(0.9)
    assert written() == 3
    prepare("early")
    for number in range(11):
        assert written() == 3
        clock.advance(0.95)
        prepare(f"late-{number}")
    assert written() == 4
    writer.failed(ref(allocated_claim("first")), TOO_BIG)
    assert written() == 5
    rig.close()
