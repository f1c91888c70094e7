"""The controller's loop, on a fake API server."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from unit.claims import claim, config, gpu_config, result

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject, ResourceClaim
from hami_dra.app.controller import ControllerOptions, start_controller
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.eventually import eventually

BAD = (config(gpu_config(qos="Gold")),)


@pytest.fixture
def server() -> FakeApiServer:
    """An empty API server."""
    return FakeApiServer()


@pytest.fixture
def controller(server: FakeApiServer) -> Iterator[Group]:
    """A controller that leads."""
    with Group("controller") as group:
        options = ControllerOptions(namespace="hami-system", identity="me", metrics_port=0, workers=2)
        start_controller(group, options, server)
        yield group


def conditions(server: FakeApiServer, name: str) -> list[JsonObject]:
    """The Resolved conditions of a claim's devices."""
    (found,) = (stored for stored in server.objects("ResourceClaim") if stored["metadata"]["name"] == name)
    entries = found.get("status", {}).get("devices", [])
    return [held for entry in entries for held in entry.get("conditions", []) if held["type"] == "Resolved"]


def post(server: FakeApiServer, made: ResourceClaim) -> None:
    """Create a claim with its allocation."""
    server.add(cast("JsonObject", made))


def test_an_allocated_claim_is_resolved(server: FakeApiServer, controller: Group) -> None:
    """Its status says what it means, and is written once."""
    assert not controller.stopping
    post(server, claim(result()))
    eventually(lambda: bool(conditions(server, "train")))
    (stored,) = server.objects("ResourceClaim")
    (entry,) = stored["status"]["devices"]
    assert entry["data"]["limits"]["memory"] == "16Gi"
    assert conditions(server, "train")[0]["status"] == "True"
    patches = [request for request in server.requests if request.method == "PATCH" and "resourceclaims" in request.path]
    assert len(patches) == 1


def test_a_bad_configuration_is_refused_with_an_event(server: FakeApiServer, controller: Group) -> None:
    """The condition and the Events on the claim and on its pod say what is wrong and where."""
    assert not controller.stopping
    made: Any = claim(result(), configs=BAD)
    made["status"]["reservedFor"] = [{"resource": "pods", "name": "trainer", "uid": "pod-1"}]
    post(server, made)
    eventually(lambda: len(server.objects("Event")) == 2)
    assert {event["involvedObject"]["kind"] for event in server.objects("Event")} == {"ResourceClaim", "Pod"}
    for event in server.objects("Event"):
        assert (event["reason"], event["type"]) == ("InvalidConfig", "Warning")
        assert 'ml/train, request gpu: GpuConfig of the claim (config[0]): qos: found "Gold"' in event["message"]
    (held,) = conditions(server, "train")
    assert (held["status"], held["reason"]) == ("False", "InvalidConfig")


def test_an_outage_delays_a_verdict_and_loses_none(server: FakeApiServer, controller: Group) -> None:
    """What fails with 5xx or 429 is written once the server answers again."""
    assert not controller.stopping
    server.fail_next(3, 503)
    for number in range(3):
        post(server, claim(result(), name=f"train-{number}", uid=f"uid-{number}"))
    eventually(lambda: all(conditions(server, f"train-{number}") for number in range(3)), within_s=30)


def test_claims_of_others_and_deleted_claims_are_left_alone(server: FakeApiServer, controller: Group) -> None:
    """A foreign claim gets no status; one that vanishes meanwhile does no harm."""
    assert not controller.stopping
    post(server, claim(result(driver="net.example.com"), name="foreign", uid="uid-f"))
    made = claim(result(), name="gone", uid="uid-g")
    post(server, made)
    server.remove(cast("JsonObject", made))
    post(server, claim(result()))
    eventually(lambda: bool(conditions(server, "train")))
    assert not conditions(server, "foreign")


def test_only_the_leader_resolves(server: FakeApiServer, controller: Group) -> None:
    """A second replica waits: one verdict, one patch."""
    eventually(lambda: bool(server.objects("Lease")))
    with Group("second") as second:
        options = ControllerOptions(namespace="hami-system", identity="other", metrics_port=0)
        start_controller(second, options, server)
        post(server, claim(result()))
        eventually(lambda: bool(conditions(server, "train")))
        (lease,) = server.objects("Lease")
        assert lease["spec"]["holderIdentity"] == "me"
    assert not controller.stopping
