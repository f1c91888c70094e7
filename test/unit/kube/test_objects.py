"""Slices, claims, nodes, version: the thin wrappers over a Transport."""

from typing import cast

import pytest

from hami_dra.api.k8s import AllocatedDeviceStatus, JsonObject, Pool, ResourceClaim, ResourceSlice
from hami_dra.core.errors import Conflict, Invalid, NotFound
from hami_dra.core.ids import NodeName
from hami_dra.kube.claims import Claims, with_transition_times
from hami_dra.kube.nodes import node_uid
from hami_dra.kube.slices import NodeSlices
from hami_dra.kube.version import ServerVersion, server_version
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.clock import FakeClock


def slices_of(server: FakeApiServer, node: str = "n1") -> NodeSlices:
    """The slices of our driver on one node."""
    return NodeSlices(server, driver="gpu.hami.io", node=NodeName(node))


def wanted(name: str = "", *, node: str = "n1", driver: str = "gpu.hami.io") -> ResourceSlice:
    """An empty slice."""
    pool: Pool = {"name": f"{node}/gpu", "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"name": name} if name else {"generateName": f"{node}-"},
        "spec": {"driver": driver, "nodeName": node, "pool": pool, "devices": []},
    }


def entry(status: str, **more: object) -> AllocatedDeviceStatus:
    """A device's status with one condition."""
    condition = {"type": "Ready", "status": status, "reason": "Prepared", "message": ""}
    return {"driver": "gpu.hami.io", "pool": "p", "device": "d", "shareID": "s", "conditions": [condition], **more}  # type: ignore[typeddict-item]


def claim(server: FakeApiServer) -> JsonObject:
    """A claim with one allocated share."""
    result = {"request": "r", "driver": "gpu.hami.io", "pool": "p", "device": "d", "shareID": "s"}
    return server.add(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": "c", "namespace": "ml"},
            "spec": {},
            "status": {"allocation": {"devices": {"results": [result]}}},
        }
    )


def test_only_our_slices_of_our_node_are_listed() -> None:
    """Other nodes' and other drivers' slices are not our business."""
    server = FakeApiServer()
    ours = slices_of(server).create(wanted())
    slices_of(server).create(wanted(node="n2"))
    slices_of(server).create(wanted(driver="other.io"))
    assert [s["metadata"]["uid"] for s in slices_of(server).list()] == [ours["metadata"]["uid"]]


def test_a_list_of_many_slices_is_read_to_its_end() -> None:
    """Pagination does not hide the slices after the five hundredth."""
    server = FakeApiServer()
    for index in range(501):
        slices_of(server).create(wanted(f"s{index:03}"))
    assert len(slices_of(server).list()) == 501


def test_an_update_needs_the_version_that_it_saw() -> None:
    """Two writers of one slice: the second one is told so."""
    slices = slices_of(FakeApiServer())
    first = slices.create(wanted())
    first["spec"]["pool"]["generation"] = 2
    second = slices.update(first)
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    with pytest.raises(Conflict, match="has been modified"):
        slices.update(first)


def test_a_slice_is_deleted_only_as_it_was_seen() -> None:
    """A slice that somebody changed since is not deleted; one that is gone is no error."""
    slices = slices_of(FakeApiServer())
    seen = slices.create(wanted())
    seen["spec"]["pool"]["generation"] = 2
    changed = slices.update(seen)
    with pytest.raises(Conflict):
        slices.delete(seen)
    slices.delete(changed)
    slices.delete(changed)
    assert slices.list() == []


def test_a_missing_claim_is_not_found() -> None:
    """The caller can tell deletion from an outage."""
    with pytest.raises(NotFound, match="resourceclaims"):
        Claims(FakeApiServer()).get(namespace="ml", name="none")


def test_the_time_of_a_condition_moves_with_its_status_only() -> None:
    """A message that changes leaves lastTransitionTime alone; a status that changes moves it."""
    server, clock = FakeApiServer(), FakeClock()
    claims = Claims(server, clock=clock)
    claim(server)
    stored = claims.get(namespace="ml", name="c")
    times: list[str] = []
    for status in ("False", "False", "True"):
        stored = claims.apply_devices(stored, [entry(status)], field_manager="node")
        (condition,) = stored["status"]["devices"][0]["conditions"] or []
        times.append(condition["lastTransitionTime"])
        clock.advance(60)
    assert times[0] == times[1] < times[2]


def test_a_time_that_the_caller_gives_stays() -> None:
    """Whoever knows the time of the change better is believed."""
    given = entry("True")
    (condition,) = given["conditions"] or []
    condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    assert with_transition_times([given], [], now="2027-01-01T00:00:00Z") == [given]
    assert with_transition_times([{"driver": "d", "pool": "p", "device": "x"}], [], now="") == [
        {"driver": "d", "pool": "p", "device": "x"}
    ]


def test_the_status_is_not_applied_to_another_claim_of_the_same_name() -> None:
    """A claim that was deleted and made again does not get the status of the old one."""
    server = FakeApiServer()
    claims = Claims(server)
    old = claim(server)
    seen = claims.get(namespace="ml", name="c")
    server.remove(old)
    claim(server)
    with pytest.raises(Invalid):
        claims.apply_devices(seen, [entry("True")], field_manager="node")


def test_a_server_that_trips_over_its_own_rewriting_is_patched() -> None:
    """1.36 refuses an apply where parameters are not canonical JSON; what others said and other conditions stay."""
    server = FakeApiServer()
    claims = Claims(server)
    claim(server)
    stored = claims.get(namespace="ml", name="c")
    claims.apply_devices(stored, [entry("True", data={"x": 1})], field_manager="controller")
    refusal = "status.allocation: field is immutable"
    server.fail_next(1, 422, method="PATCH", message=refusal)
    patched = claims.apply_devices(stored, [entry("False")], field_manager="node")
    (device,) = patched["status"]["devices"]
    assert [held["status"] for held in device["conditions"] or []] == ["False"]
    assert device.get("data") == {"x": 1}


def test_a_patch_does_not_reach_another_claim_of_the_same_name() -> None:
    """The claim was replaced between the refusal and the second attempt."""
    server = FakeApiServer()
    claims = Claims(server)
    claim(server)
    stored = claims.get(namespace="ml", name="c")
    gone = {**stored, "metadata": {**stored["metadata"], "uid": "another"}}
    server.fail_next(1, 422, method="PATCH", message="status.allocation: field is immutable")
    with pytest.raises(Invalid, match="another claim"):
        claims.apply_devices(cast("ResourceClaim", gone), [entry("True")], field_manager="node")


def test_the_uid_of_a_node_is_read_anew_each_time() -> None:
    """After a node was deleted and came back its slices belong to the new object."""
    server = FakeApiServer()
    with pytest.raises(NotFound):
        node_uid(server, NodeName("n1"))
    old = server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    assert node_uid(server, NodeName("n1")) == old["metadata"]["uid"]
    server.remove(old)
    new = server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    assert node_uid(server, NodeName("n1")) == new["metadata"]["uid"] != old["metadata"]["uid"]


def test_versions_compare_as_numbers() -> None:
    """1.9 is older than 1.36, whatever a vendor appends."""
    assert server_version(FakeApiServer(version="v1.36.3")) == ServerVersion(1, 36, "v1.36.3")
    assert ServerVersion(1, 9) < ServerVersion(1, 34)
