"""Which feature gates an API server has closed, read from what it keeps of a slice.

Fields behind a closed gate are dropped without a word.  `probes` are slices that use every gated field: written as a dry run,
what comes back says which gates are closed before anything is published that the server would cut down; `dropped_gates` reads it,
and the same from every slice that was really written.
"""

import re
from typing import Any

from hami_dra.api.k8s import ResourceSliceSpec
from hami_dra.api.names import (
    CAPACITY_MEMORY,
    DRIVER,
    GATE_CONSUMABLE_CAPACITY,
    GATE_PARTITIONABLE_DEVICES,
    GATE_TAINTS,
)
from hami_dra.core.ids import NodeName, PoolName

__all__ = ["counts_shares", "dropped_gates", "probes"]

_COUNTS_SHARES = (1, 36, 2)
"""From this release on a scheduler charges counters for shared devices, too (kubernetes#139034)."""


def probes(*, node: NodeName, pool: PoolName) -> tuple[tuple[frozenset[str], ResourceSliceSpec], ...]:
    """Slices for a dry run, each with the gates that are as good as closed where the server refuses it.

    1.34 wants counters in the slice of the devices that consume them: it refuses what later releases take.  Other refusals (an
    admission webhook that takes no dry runs) say nothing of gates.
    """
    policy = {"default": "1Mi", "validRange": {"min": "1Mi", "step": "1Mi"}}
    base: ResourceSliceSpec = {
        "driver": DRIVER,
        "nodeName": node,
        "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1},
    }
    shared: Any = {"value": "1Gi", "requestPolicy": policy}
    sharing: ResourceSliceSpec = {
        **base,
        "devices": [
            {"name": "shared", "allowMultipleAllocations": True, "capacity": {CAPACITY_MEMORY: shared}},
            {"name": "tainted", "taints": [{"key": f"{DRIVER}/probe", "effect": "NoSchedule"}]},
        ],
    }
    counting: ResourceSliceSpec = {
        **base,
        "devices": [
            {"name": "partition", "consumesCounters": [{"counterSet": "card", "counters": {"slices": {"value": "1"}}}]}
        ],
    }
    return (
        (frozenset(), sharing),
        (frozenset({GATE_PARTITIONABLE_DEVICES}), counting),
    )


def dropped_gates(sent: ResourceSliceSpec, stored: ResourceSliceSpec) -> frozenset[str]:
    """Feature gates whose fields the API server dropped from what was sent."""
    kept = {device["name"]: device for device in stored.get("devices", [])}
    missing: set[str] = set()
    if sent.get("sharedCounters") and not stored.get("sharedCounters"):
        missing.add(GATE_PARTITIONABLE_DEVICES)
    for device in sent.get("devices", []):
        other: Any = kept.get(device["name"], {})
        if device.get("taints") and not other.get("taints"):
            missing.add(GATE_TAINTS)
        if device.get("consumesCounters") and not other.get("consumesCounters"):
            missing.add(GATE_PARTITIONABLE_DEVICES)
        if device.get("allowMultipleAllocations") and not other.get("allowMultipleAllocations"):
            missing.add(GATE_CONSUMABLE_CAPACITY)
        for name, capacity in device.get("capacity", {}).items():
            if "requestPolicy" in capacity and "requestPolicy" not in other.get("capacity", {}).get(name, {}):
                missing.add(GATE_CONSUMABLE_CAPACITY)
    return frozenset(missing)


def counts_shares(version: str) -> bool:
    """Whether that release charges counters for shared devices; `version` as `/version` gives it, such as `v1.36.3-gke.1`."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return numbers is not None and tuple(int(number) for number in numbers.groups()) >= _COUNTS_SHARES
