"""What the controller says about a claim."""

import json

from unit.claims import claim, config, gpu_config, result

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.resolution import Verdict, is_published, judge

BAD = (config(gpu_config(qos="Gold")),)


def verdict(made: ResourceClaim) -> Verdict:
    """The verdict on a claim that has one."""
    found = judge(made)
    assert found is not None
    return found


def stored(made: ResourceClaim, found: Verdict, **changes: str) -> ResourceClaim:
    """The claim as the API server keeps it after the verdict was applied."""
    devices = json.loads(json.dumps(found.devices))
    for device in devices:
        device["conditions"] = [{"lastTransitionTime": "2026-01-01T00:00:00Z"} | device["conditions"][0] | changes]
    kept: ResourceClaim = {**made, "status": {**made.get("status", {}), "devices": devices}}
    return kept


def test_a_claim_without_our_devices_has_no_verdict() -> None:
    """Nothing to say about others' claims, or before the allocation."""
    assert judge(claim()) is None


def test_a_valid_claim_is_resolved_entry_by_entry() -> None:
    """Each share has its key, its data and Resolved=True; whole devices have no shareID."""
    found = verdict(claim(result(), result("b", shareID=None, consumedCapacity=None)))
    assert found.problem is None
    assert [entry.get("shareID") is None for entry in found.devices] == [False, True]
    assert all((entry.get("conditions") or [])[0]["status"] == "True" for entry in found.devices)
    assert [entry.get("data", {})["request"] for entry in found.devices] == ["gpu", "b"]


def test_a_wrong_configuration_refuses_the_whole_claim() -> None:
    """Every entry is Resolved=False with reason and message, and none has data."""
    found = verdict(claim(result(), result("b", shareID="s2"), configs=BAD))
    assert found.problem is not None
    for entry in found.devices:
        (condition,) = entry.get("conditions") or []
        assert (condition["status"], condition["reason"]) == ("False", "InvalidConfig")
        assert 'qos: found "Gold"' in condition["message"]
        assert "data" not in entry


def test_a_published_verdict_is_not_written_again() -> None:
    """The API server's additions, such as transition times, do not count as a difference."""
    made = claim(result())
    found = verdict(made)
    assert not is_published(found, made)
    assert is_published(found, stored(made, found))
    refused = claim(result(), configs=BAD)
    assert is_published(verdict(refused), stored(refused, verdict(refused)))


def test_an_entry_without_conditions_is_not_published() -> None:
    """The node's entry may be there first, and the API server shows no conditions as null."""
    made = claim(result())
    found = verdict(made)
    bare = stored(made, found)
    bare.get("status", {})["devices"] = [{**device, "conditions": None} for device in found.devices]
    assert not is_published(found, bare)


def test_a_stale_status_is_written_again() -> None:
    """Another status, another message or other data is a difference."""
    made = claim(result())
    found = verdict(made)
    assert not is_published(found, stored(made, found, status="False"))
    assert not is_published(found, stored(made, verdict(claim(result(consumedCapacity={"memory": "1Gi"})))))
