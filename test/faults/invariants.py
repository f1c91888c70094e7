"""What must hold on a node that nothing is broken on: everything that says what is prepared says the same.

Given what the API server holds and what lies on the node, `complaints` names every difference; none means that ledger = CDI files
= share directories = living containers = reserved claims, that no share was lost or given twice, and that no card is above its
size.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.support import Prepared

from hami_dra.api.names import DRIVER

__all__ = ["Snapshot", "complaints", "lost_its_claim", "unsettled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One look at everything."""

    wanted: Collection[str]
    """Names of the pods that should run."""
    pods: Mapping[str, Any]
    """What the API server holds, by name."""
    claims: Mapping[str, Any]
    """The same."""
    prepared: Prepared
    """What lies on the node."""
    cdi_devices: Sequence[str]
    """Names of all devices in all CDI specs of the driver."""
    in_use: Collection[str]
    """UIDs of claims whose files living containers have mounted."""
    records: Sequence[Mapping[str, Any]]
    """The ledger's records."""
    card_bytes: int
    slots: int


def complaints(seen: Snapshot) -> list[str]:
    """What does not hold, in words; empty where all is well."""
    found = unsettled(seen.wanted, seen.pods)
    results = {
        claim["metadata"]["uid"]: _results(claim)
        for claim in seen.claims.values()
        if claim["status"].get("reservedFor")
    }
    expected = {uid: sum(not result.get("adminAccess") for result in of_claim) for uid, of_claim in results.items()}
    prepared = seen.prepared
    found += _unequal("share directories", dict(prepared.shares), expected)
    found += _unequal("CDI specs", sorted(prepared.specs), sorted(expected))
    found += _unequal("rows of the ledger", dict(prepared.ledger), dict.fromkeys(expected, "Completed"))
    limited = [uid for uid, shares in expected.items() if shares]  # with admin access nothing is limited, nor mounted
    found += _unequal("claims of living containers", sorted(seen.in_use), sorted(limited))
    devices = [f"{uid}-{_key(result)}" for uid, of in results.items() for result in of]
    found += _unequal("devices in CDI specs", sorted(seen.cdi_devices), sorted(devices))
    return found + _above(seen)


def unsettled(wanted: Collection[str], pods: Mapping[str, Any]) -> list[str]:
    """What does not hold of the pods alone, which is cheap to see."""
    found = [f"pod {name} does not run" for name in sorted(wanted) if not _runs(pods.get(name))]
    return found + [f"pod {name} should be gone" for name in sorted(set(pods) - set(wanted))]


def lost_its_claim(pod: Mapping[str, Any]) -> bool:
    """Whether kubelet says that it does not know a claim which it prepared for this pod."""
    waiting = [status["state"].get("waiting", {}) for status in pod["status"].get("containerStatuses", [])]
    return any("unable to get claim info" in reason.get("message", "") for reason in waiting)


def _runs(pod: Mapping[str, Any] | None) -> bool:
    if pod is None:
        return False
    statuses = [
        *pod["status"].get("containerStatuses", []),
        *pod["status"].get("initContainerStatuses", []),
    ]
    return bool(statuses) and all("running" in status["state"] for status in statuses)


def _results(claim: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    results = claim["status"].get("allocation", {}).get("devices", {}).get("results", [])
    return [result for result in results if result["driver"] == DRIVER]


def _key(result: Mapping[str, Any]) -> str:
    """A device that is given whole, or looked at with admin access, has no share ID."""
    return "-".join(filter(None, (result["device"], result.get("shareID"))))


def _unequal(what: str, there: Iterable[object], expected: Iterable[object]) -> list[str]:
    """Compares how often what is there, or key by key."""
    counts = [Counter(side.items() if isinstance(side, Mapping) else side) for side in (there, expected)]
    more, less = counts[0] - counts[1], counts[1] - counts[0]
    return [f"{what}: {sorted(map(str, more))} too much, {sorted(map(str, less))} lacking"] if more or less else []


def _above(seen: Snapshot) -> list[str]:
    """Cards that were given away more than once, by what the ledger says."""
    memory, cores, slots = Counter[str](), Counter[str](), Counter[str]()
    for record in seen.records:
        for share in record["shares"]:
            if share["adminAccess"]:
                continue
            memory[share["device"]] += share["memoryBytes"]
            cores[share["device"]] += share["cores"]
            slots[share["device"]] += 1
    return (
        [f"{card} holds {size} of {seen.card_bytes} bytes" for card, size in memory.items() if size > seen.card_bytes]
        + [f"{card} holds {share} of 100 cores" for card, share in cores.items() if share > 100]
        + [f"{card} has {number} of {seen.slots} tenants" for card, number in slots.items() if number > seen.slots]
    )
