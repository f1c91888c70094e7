"""Which feature gates a server has closed."""

import copy
from typing import Any

import pytest

from hami_dra.api.k8s import ResourceSliceSpec
from hami_dra.core.gates import counts_shares, dropped_gates, probes
from hami_dra.core.ids import NodeName, PoolName

CONSUMABLE, PARTITIONS, TAINTS = "DRAConsumableCapacity", "DRAPartitionableDevices", "DRADeviceTaints"
SHARING, COUNTING = (spec for _, spec in probes(node=NodeName("n"), pool=PoolName("n/gpu")))
COUNTERS: ResourceSliceSpec = {**COUNTING, "sharedCounters": [{"name": "card", "counters": {"slices": {"value": "7"}}}]}


def without(spec: ResourceSliceSpec, *fields: str) -> ResourceSliceSpec:
    """What a server keeps that does not know these fields."""
    kept: Any = copy.deepcopy(spec)
    for holder in (
        kept,
        *kept["devices"],
        *(c for device in kept["devices"] for c in device.get("capacity", {}).values()),
    ):
        for name in fields:
            holder.pop(name, None)
    return kept  # type: ignore[no-any-return] # a spec again


def test_a_server_that_keeps_everything_has_no_gate_closed() -> None:
    """What comes back is what went."""
    for spec in (SHARING, COUNTING, COUNTERS):
        assert dropped_gates(spec, spec) == frozenset()


@pytest.mark.parametrize(
    ("spec", "fields", "gate"),
    [
        (SHARING, ("allowMultipleAllocations", "requestPolicy"), CONSUMABLE),
        (SHARING, ("requestPolicy",), CONSUMABLE),
        (SHARING, ("taints",), TAINTS),
        (COUNTING, ("consumesCounters",), PARTITIONS),
        (COUNTERS, ("sharedCounters",), PARTITIONS),
    ],
)
def test_a_lost_field_names_its_gate(spec: ResourceSliceSpec, fields: tuple[str, ...], gate: str) -> None:
    """The device is kept, what is behind the gate is not."""
    assert dropped_gates(spec, without(spec, *fields)) == {gate}


def test_a_lost_device_has_lost_everything() -> None:
    """No server does that; but nobody is told that all is well."""
    assert dropped_gates(SHARING, SHARING | {"devices": []}) == {CONSUMABLE, TAINTS}


@pytest.mark.parametrize(
    ("version", "counted"),
    [("v1.35.9", False), ("v1.36.1", False), ("v1.36.2-gke.1", True), ("v1.37.0-alpha.1", True), ("nonsense", False)],
)
def test_shares_are_charged_to_counters_from_1_36_2_on(version: str, *, counted: bool) -> None:
    """Before, a share of a partition left its memory slices to others (kubernetes#139034)."""
    assert counts_shares(version) is counted


def test_what_a_server_is_asked_is_what_the_contract_tests_asked_real_ones() -> None:
    """A probe that a server refuses for another reason would say nothing of its gates."""
    pool = {"name": "n/gpu", "generation": 1, "resourceSliceCount": 1}
    policy = {"default": "1Mi", "validRange": {"min": "1Mi", "step": "1Mi"}}
    base = {"driver": "gpu.hami.io", "nodeName": "n", "pool": pool}
    assert probes(node=NodeName("n"), pool=PoolName("n/gpu")) == (
        (
            frozenset(),
            base
            | {
                "devices": [
                    {
                        "name": "shared",
                        "allowMultipleAllocations": True,
                        "capacity": {"memory": {"value": "1Gi", "requestPolicy": policy}},
                    },
                    {"name": "tainted", "taints": [{"key": "gpu.hami.io/probe", "effect": "NoSchedule"}]},
                ]
            },
        ),
        (
            frozenset({PARTITIONS}),
            base
            | {
                "devices": [
                    {
                        "name": "partition",
                        "consumesCounters": [{"counterSet": "card", "counters": {"slices": {"value": "1"}}}],
                    }
                ]
            },
        ),
    )
