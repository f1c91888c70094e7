"""Server-side apply of claim status: the fake API server and a real one do the same."""

import pytest
from contract.api_servers import Api

from hami_dra.api.k8s import AllocatedDeviceStatus, JsonObject, ResourceClaim
from hami_dra.core.errors import Conflict, Invalid, NotFound
from hami_dra.kube.claims import Claims

SHARE = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"


def entry(condition: str = "", *, share: str = SHARE, **more: object) -> AllocatedDeviceStatus:
    """What one manager says of a share."""
    device: JsonObject = {"driver": "gpu.hami.io", "pool": "n1/gpu", "device": "gpu", **more}
    if share:
        device["shareID"] = share
    if condition:
        device["conditions"] = [{"type": condition, "status": "True", "reason": "Fine", "message": ""}]
    return device  # type: ignore[return-value]  # built piece by piece


def said(claim: ResourceClaim) -> list[tuple[str, list[str], object]]:
    """What the status says: share, types of its conditions, data."""
    devices = claim.get("status", {}).get("devices", [])
    return sorted(
        (d.get("shareID", ""), sorted(c["type"] for c in d.get("conditions") or []), d.get("data")) for d in devices
    )


def test_each_manager_says_its_part_of_a_share(api: Api) -> None:
    """Two conditions and data of two managers end up in one entry; saying it again changes nothing."""
    api.add_claim(SHARE)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    claims.apply_devices(claim, [entry("Ready")], field_manager="node")
    claim = claims.apply_devices(claim, [entry("Resolved", data={"a": {"b": [1]}})], field_manager="controller")
    assert said(claim) == [(SHARE, ["Ready", "Resolved"], {"a": {"b": [1]}})]
    again = claims.apply_devices(claim, [entry("Ready")], field_manager="node")
    assert again["metadata"]["resourceVersion"] == claim["metadata"]["resourceVersion"]


def test_what_a_manager_no_longer_says_goes_away(api: Api) -> None:
    """And what the other one says stays; with the last one's word the entry goes."""
    api.add_claim(SHARE, OTHER)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    claims.apply_devices(claim, [entry("Ready"), entry("Ready", share=OTHER)], field_manager="node")
    claim = claims.apply_devices(claim, [entry("Resolved", data={"x": 1})], field_manager="controller")
    assert said(claim) == [(SHARE, ["Ready", "Resolved"], {"x": 1}), (OTHER, ["Ready"], None)]
    claim = claims.apply_devices(claim, [entry("Ready")], field_manager="node")
    assert said(claim) == [(SHARE, ["Ready", "Resolved"], {"x": 1})]
    claim = claims.apply_devices(claim, [entry("Resolved")], field_manager="controller")
    assert said(claim) == [(SHARE, ["Ready", "Resolved"], None)]
    claim = claims.apply_devices(claim, [], field_manager="node")
    assert said(claim) == [(SHARE, ["Resolved"], None)]
    claim = claims.apply_devices(claim, [], field_manager="controller")
    assert said(claim) == []
    assert claim["status"].get("allocation")


def test_data_is_one_value(api: Api) -> None:
    """What is applied replaces all of it, however deep the difference lies."""
    api.add_claim(SHARE)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    claims.apply_devices(claim, [entry(data={"limits": {"memory": "1Gi", "cores": 3}})], field_manager="c")
    claim = claims.apply_devices(claim, [entry(data={"limits": {"memory": "2Gi"}})], field_manager="c")
    assert said(claim) == [(SHARE, [], {"limits": {"memory": "2Gi"}})]


def test_an_entry_of_a_device_without_share_id(api: Api) -> None:
    """A whole device has no shareID: its key is the rest."""
    api.add_claim("")
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    claim = claims.apply_devices(claim, [entry("Ready", share="", device="gpu-whole")], field_manager="node")
    claim = claims.apply_devices(claim, [entry("Resolved", share="", device="gpu-whole")], field_manager="controller")
    assert said(claim) == [("", ["Ready", "Resolved"], None)]
    claim = claims.apply_devices(claim, [], field_manager="controller")
    assert said(claim) == [("", ["Ready"], None)]


def test_a_value_of_somebody_else_is_a_conflict_unless_forced(api: Api) -> None:
    """Force takes the field over: its former manager no longer removes it."""
    api.add_claim(SHARE)
    _apply(api, "first", {"n": 1}, force=False)
    with pytest.raises(Conflict, match=r'409 Conflict.*conflict with "first"'):
        _apply(api, "second", {"n": 2}, force=False)
    _apply(api, "second", {"n": 2}, force=True)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    assert said(claim) == [(SHARE, [], {"n": 2})]
    claim = claims.apply_devices(claim, [], field_manager="first")
    assert said(claim) == [(SHARE, [], {"n": 2})]


def test_the_same_value_is_owned_by_both(api: Api) -> None:
    """It goes when the second of them stops saying it."""
    api.add_claim(SHARE)
    _apply(api, "first", {"n": 1}, force=False)
    _apply(api, "second", {"n": 1}, force=False)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    claim = claims.apply_devices(claim, [], field_manager="first")
    assert said(claim) == [(SHARE, [], {"n": 1})]
    assert said(claims.apply_devices(claim, [], field_manager="second")) == []


def test_a_device_that_is_not_allocated_has_no_status(api: Api) -> None:
    """The wrong share is refused, and nothing of the request is stored."""
    api.add_claim(SHARE)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    with pytest.raises(Invalid, match="must be an allocated device in the claim"):
        claims.apply_devices(claim, [entry("Ready"), entry("Ready", share=OTHER)], field_manager="node")
    assert said(claims.get(namespace=api.namespace, name="claim")) == []


def test_a_condition_needs_all_its_parts(api: Api) -> None:
    """Without a reason, say, it is refused."""
    api.add_claim(SHARE)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    bad = entry("Ready")
    (condition,) = bad["conditions"] or []
    condition["reason"] = ""
    with pytest.raises(Invalid, match=r"conditions\[0\].reason"):
        claims.apply_devices(claim, [bad], field_manager="node")


def test_a_claim_that_was_made_again_is_not_written(api: Api) -> None:
    """The uid in the request belongs to an object that is gone."""
    api.add_claim(SHARE)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    api.send("DELETE", f"{api.claims}/claim")
    with pytest.raises(NotFound):
        claims.apply_devices(claim, [entry("Ready")], field_manager="node")
    api.add_claim(SHARE)
    with pytest.raises(Invalid, match=r"metadata\.uid.*immutable"):
        claims.apply_devices(claim, [entry("Ready")], field_manager="node")


def test_deallocation_takes_the_status_of_the_devices_along(api: Api) -> None:
    """When the scheduler withdraws the allocation, nothing stays to be cleaned up."""
    api.add_claim(SHARE)
    claims = Claims(api.transport)
    claim = claims.get(namespace=api.namespace, name="claim")
    claims.apply_devices(claim, [entry("Ready")], field_manager="node")
    stored = api.send("GET", f"{api.claims}/claim")
    del stored["status"]["allocation"]
    assert not api.send("PUT", f"{api.claims}/claim/status", stored)["status"].get("devices")


def _apply(api: Api, manager: str, data: JsonObject, *, force: bool) -> None:
    body: JsonObject = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "claim", "namespace": api.namespace},
        "status": {"devices": [entry(data=data)]},
    }
    query = {"fieldManager": manager, "force": str(force).lower()}
    api.send("PATCH", f"{api.claims}/claim/status", body, query=query, content_type="application/apply-patch+yaml")
