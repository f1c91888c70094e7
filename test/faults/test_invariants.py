"""The campaign's eyes: a node in order has no complaint, and each way to be out of order is seen."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from e2e.support import Prepared
from faults.invariants import Snapshot, complaints, lost_its_claim

UIDS = ("uid-a", "uid-b")


def _claim(uid: str, *, users: int = 1) -> Mapping[str, Any]:
    result = {"driver": "gpu.hami.io", "device": "gpu-0", "shareID": f"share-of-{uid}", "request": "gpu"}
    other = {"driver": "nic.example.com", "device": "nic-0", "request": "nic"}
    status = {"allocation": {"devices": {"results": [result, other]}}, "reservedFor": [{"name": "pod"}] * users}
    return {"metadata": {"uid": uid}, "status": status}


def _pod(state: str = "running") -> Mapping[str, Any]:
    return {"status": {"containerStatuses": [{"state": {state: {}}}]}}


def _record(*, memory: int = 10, cores: int = 10) -> Mapping[str, Any]:
    return {"shares": [{"device": "gpu-0", "memoryBytes": memory, "cores": cores, "adminAccess": False}]}


GOOD = Snapshot(
    wanted=("a", "b"),
    pods={"a": _pod(), "b": _pod()},
    claims={**{uid: _claim(uid) for uid in UIDS}, "idle": _claim("uid-idle", users=0)},
    prepared=Prepared(shares=dict.fromkeys(UIDS, 1), specs=frozenset(UIDS), ledger=dict.fromkeys(UIDS, "Completed")),
    cdi_devices=[f"{uid}-gpu-0-share-of-{uid}" for uid in UIDS],
    in_use=set(UIDS),
    records=[_record(), _record()],
    card_bytes=20,
    slots=2,
)


def test_a_node_in_order_has_no_complaint() -> None:
    """Everything agrees, and a claim that nobody uses need not be there."""
    assert complaints(GOOD) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"pods": {"a": _pod()}}, "pod b does not run"),
        ({"pods": {"a": _pod(), "b": _pod("waiting")}}, "pod b does not run"),
        ({"wanted": ("a",)}, "pod b should be gone"),
        ({"prepared": replace(GOOD.prepared, shares={"uid-a": 1})}, "share directories"),
        ({"prepared": replace(GOOD.prepared, shares={"uid-a": 1, "uid-b": 2})}, "share directories"),
        ({"prepared": replace(GOOD.prepared, specs=frozenset({"uid-a", "uid-b", "uid-c"}))}, "CDI specs"),
        ({"prepared": replace(GOOD.prepared, ledger={"uid-a": "Completed", "uid-b": "Started"})}, "rows of the ledger"),
        ({"in_use": {"uid-a"}}, "claims of living containers"),
        ({"in_use": {*UIDS, "uid-c"}}, "claims of living containers"),
        ({"cdi_devices": [*GOOD.cdi_devices, GOOD.cdi_devices[0]]}, "devices in CDI specs"),
        ({"records": [_record(memory=11), _record()]}, "gpu-0 holds 21 of 20 bytes"),
        ({"records": [_record(cores=91), _record()]}, "gpu-0 holds 101 of 100 cores"),
        ({"records": [_record(memory=1)] * 3}, "gpu-0 has 3 of 2 tenants"),
    ],
)
def test_what_does_not_hold_is_said(changed: dict[str, Any], said: str) -> None:
    """One complaint, about that and nothing else."""
    (complaint,) = complaints(replace(GOOD, **changed))
    assert complaint.startswith(said)


def test_a_pod_whose_claim_kubelet_lost_is_told_from_others() -> None:
    """By kubelet's own words, which no other container that waits has."""
    words = "internal error: unable to get claim info for ResourceClaim claim-1 in namespace default"
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": words}}
    assert lost_its_claim({"status": {"containerStatuses": [{"state": waiting}]}})
    assert not lost_its_claim(_pod("waiting"))
    assert not lost_its_claim({"status": {}})
