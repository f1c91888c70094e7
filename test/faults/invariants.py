"""What must hold on a node that nothing is broken on: everything that says what is prepared says the same.

Given what the API server holds and what lies on the node, `complaints` names every difference; none means that ledger = CDI files
= share directories = living containers = reserved claims, that no share was lost or given twice, and that no card is above its
size.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.support import Prepared

from hami_dra.api.names import DRIVER

__all__ = ["Snapshot", "complaints"]


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
    """UIDs of claims whose files living containers have."""
    records: Sequence[Mapping[str, Any]]
    """The ledger's records."""
    card_bytes: int
    slots: int


def complaints(seen: Snapshot) -> list[str]:
    """What does not hold, in words; empty where all is well."""
    found = [f"pod {name} does not run" for name in sorted(seen.wanted) if not _runs(seen.pods.get(name))]
    found += [f"pod {name} should be gone" for name in sorted(set(seen.pods) - set(seen.wanted))]
    results = {
        claim["metadata"]["uid"]: _results(claim)
        for claim in seen.claims.values()
        if claim["status"].get("reservedFor")
    }
    expected = {uid: len(of_claim) for uid, of_claim in results.items()}
    prepared = seen.prepared
    found += _unequal("share directories", dict(prepared.shares), expected)
    found += _unequal("CDI specs", sorted(prepared.specs), sorted(expected))
    found += _unequal("rows of the ledger", dict(prepared.ledger), dict.fromkeys(expected, "Completed"))
    found += _unequal("claims of living containers", sorted(seen.in_use), sorted(expected))
    devices = [f"{uid}-{result['device']}-{result['shareID']}" for uid, of in results.items() for result in of]
    found += _unequal("devices in CDI specs", sorted(seen.cdi_devices), sorted(devices))
    return found + _above(seen)


def _runs(pod: Mapping[str, Any] | None) -> bool:
    statuses = pod["status"].get("containerStatuses", []) if pod else []
    return bool(statuses) and all("running" in status["state"] for status in statuses)


def _results(claim: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    results = claim["status"].get("allocation", {}).get("devices", {}).get("results", [])
    return [result for result in results if result["driver"] == DRIVER]


def _unequal(what: str, there: object, expected: object) -> list[str]:
    return [] if there == expected else [f"{what}: {there}, expected {expected}"]


def _above(seen: Snapshot) -> list[str]:
    """Cards that were given away more than once, by what the ledger says."""
    memory, cores, slots = Counter[str](), Counter[str](), Counter[str]()
    for record in seen.records:
        for share in record["shares"]:
            memory[share["device"]] += share["memoryBytes"]
            cores[share["device"]] += share["cores"]
            slots[share["device"]] += 1
    return (
        [f"{card} holds {size} of {seen.card_bytes} bytes" for card, size in memory.items() if size > seen.card_bytes]
        + [f"{card} holds {share} of 100 cores" for card, share in cores.items() if share > 100]
        + [f"{card} has {number} of {seen.slots} tenants" for card, number in slots.items() if number > seen.slots]
    )
