"""What the controller says about a claim: the entries of `status.devices` and, where the claim cannot work, why.

Pure; `controller.resolver` writes it down.  Each result of our driver gets an entry with the share's half of its container edits
as `data` and the condition `Resolved`.  One wrong configuration makes every entry of the claim `Resolved=False`: kubelet prepares
a claim as a whole or not at all.
"""

from dataclasses import dataclass

from hami_dra.api.k8s import AllocatedDeviceStatus, Condition, ResourceClaim
from hami_dra.api.names import CONDITION_RESOLVED, DRIVER
from hami_dra.core.allocation import Allocation, Result, read_allocation
from hami_dra.core.cdi import share_data
from hami_dra.core.errors import ClaimNotAllocated, HamiDraError, InvalidConfig
from hami_dra.core.resolve import resolve

__all__ = ["Verdict", "is_published", "judge"]

_MAX_MESSAGE = 32768
"""Limit of metav1.Condition.message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to publish for one claim."""

    devices: tuple[AllocatedDeviceStatus, ...]
    problem: HamiDraError | None
    """Why the claim cannot be prepared as it is; None when it can."""


def judge(claim: ResourceClaim) -> Verdict | None:
    """The verdict on a claim, or None where there is nothing to say: it has nothing of this driver (yet).

    Raises:
        ClaimChanged: the object is not a claim that can be judged.
    """
    try:
        allocation = read_allocation(claim)
    except ClaimNotAllocated:
        return None
    try:
        specs = resolve(allocation)
    except InvalidConfig as problem:
        return Verdict(devices=_refused(allocation, problem), problem=problem)
    resolved: Condition = {
        "type": CONDITION_RESOLVED,
        "status": "True",
        "reason": "Resolved",
        "message": "the claim's configuration is valid; data says what it means",
    }
    devices = tuple(
        AllocatedDeviceStatus(**_key(result), conditions=[resolved], data=share_data(allocation.uid, spec))
        for result, spec in zip(allocation.results, specs, strict=True)
    )
    return Verdict(devices=devices, problem=None)


def is_published(verdict: Verdict, claim: ResourceClaim) -> bool:
    """Whether the claim's status already says what the verdict says, whoever wrote it."""
    stored = {_identity(entry): entry for entry in claim.get("status", {}).get("devices", [])}
    return all(_says(stored.get(_identity(device)), device) for device in verdict.devices)


def _refused(allocation: Allocation, problem: HamiDraError) -> tuple[AllocatedDeviceStatus, ...]:
    condition: Condition = {
        "type": CONDITION_RESOLVED,
        "status": "False",
        "reason": problem.reason,
        "message": str(problem)[:_MAX_MESSAGE],
    }
    return tuple(AllocatedDeviceStatus(**_key(result), conditions=[condition]) for result in allocation.results)


def _key(result: Result) -> AllocatedDeviceStatus:
    key: AllocatedDeviceStatus = {"driver": DRIVER, "pool": result.pool, "device": result.device}
    return key | {"shareID": result.share_id} if result.share_id else key


def _identity(entry: AllocatedDeviceStatus) -> tuple[str, str, str, str]:
    return entry["driver"], entry["pool"], entry["device"], entry.get("shareID", "")


def _says(stored: AllocatedDeviceStatus | None, device: AllocatedDeviceStatus) -> bool:
    if stored is None or stored.get("data") != device.get("data"):
        return False
    wanted = device.get("conditions") or []
    held = stored.get("conditions") or []
    present = [{name: value for name, value in condition.items() if name in wanted[0]} for condition in held]
    return all(condition in present for condition in wanted)
