"""What counts as a change of a slice, and what is written for it."""

from copy import deepcopy
from typing import Any

import pytest

from hami_dra.api.k8s import ResourceSlice, ResourceSliceSpec
from hami_dra.core.slice_diff import Changes, diff


def devices(number: int = 0, **changes: Any) -> ResourceSliceSpec:
    """A slice with one partition that takes from a card's counters."""
    device = {
        "name": f"gpu-{number}-part",
        "attributes": {"vendor": {"string": "NVIDIA"}},
        "capacity": {"memory": {"value": "1Gi"}},
        "consumesCounters": [{"counterSet": f"gpu-{number}", "counters": {"memory-slices": {"value": "1"}}}],
        "taints": [{"key": "gpu.hami.io/xid", "value": "63", "effect": "NoSchedule"}],
    }
    return {
        "driver": "gpu.hami.io",
        "nodeName": "node-1",
        "pool": {"name": "node-1/gpu", "generation": 0, "resourceSliceCount": 2},
        "devices": [device | changes],  # type: ignore[list-item] # the fields of a device
    }


def counters(value: str = "8") -> ResourceSliceSpec:
    """A slice with the counters of a card."""
    made = devices()
    del made["devices"]
    made["sharedCounters"] = [{"name": "gpu-0", "counters": {"memory-slices": {"value": value}}}]
    return made


def held(*specs: ResourceSliceSpec, generation: int = 4) -> list[ResourceSlice]:
    """The API server has these."""
    return [
        {
            "metadata": {"name": f"slice-{number}"},
            "spec": deepcopy(spec) | {"pool": spec["pool"] | {"generation": generation}},
        }
        for number, spec in enumerate(specs)
    ]


def generations(changes: Changes) -> list[int]:
    """Of all that is written."""
    return [spec["pool"]["generation"] for spec in (*(each["spec"] for each in changes.update), *changes.create)]


def test_what_is_written_otherwise_but_means_the_same_is_no_change() -> None:
    """The server may spell quantities its own way, leave out what is empty, and say since when a taint is there."""
    seen = held(counters("8000m"), devices())
    device: Any = seen[1]["spec"]["devices"][0]
    device["capacity"] = {"memory": {"value": "1024Mi"}}
    device["consumesCounters"][0]["counters"] = {"memory-slices": {"value": "1000m"}}
    device["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z"
    assert diff([counters(), devices()], seen) == Changes(delete=(), update=(), create=())


@pytest.mark.parametrize(
    "changes",
    [
        {"attributes": {"vendor": {"string": "AMD"}}},
        {"capacity": {"memory": {"value": "2Gi"}}},
        {"capacity": {"slots": {"value": "1Gi"}}},
        {"consumesCounters": [{"counterSet": "gpu-0", "counters": {"memory-slices": {"value": "2"}}}]},
        {"consumesCounters": [{"counterSet": "gpu-1", "counters": {"memory-slices": {"value": "1"}}}]},
        {"consumesCounters": []},
        {"taints": []},
        {"taints": [{"key": "gpu.hami.io/xid", "value": "79", "effect": "NoSchedule"}]},
        {"taints": [{"key": "gpu.hami.io/xid", "value": "63", "effect": "NoExecute"}]},
    ],
)
def test_one_device_that_is_another_is_written_in_place(changes: dict[str, Any]) -> None:
    """Nothing else is touched: the pool stays whole and of its generation."""
    wanted = [counters(), devices(**changes)]
    written = diff(wanted, held(counters(), devices()))
    assert [each["metadata"]["name"] for each in written.update] == ["slice-1"]
    assert (written.delete, written.create, generations(written)) == ((), (), [4])
    assert bool(written)


def test_other_counters_of_a_card_are_written_in_place() -> None:
    """As devices are."""
    written = diff([counters("7"), devices()], held(counters(), devices()))
    assert [each["metadata"]["name"] for each in written.update] == ["slice-0"]
    assert generations(written) == [4]


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [
        ([counters("7"), devices(taints=[])], [counters(), devices()]),
        ([counters(), devices(), devices(1)], [counters(), devices()]),
        ([counters(), devices(taints=[])], [counters(), devices(), devices(1)]),
    ],
    ids=["two changed", "one more", "one changed, one less"],
)
def test_anything_more_is_a_new_generation_of_all(
    wanted: list[ResourceSliceSpec], seen: list[ResourceSliceSpec]
) -> None:
    """Readers take a generation when it is whole, so that they never see half of each."""
    written = diff(wanted, held(*seen))
    assert generations(written) == [5] * len(wanted)
    assert len(written.delete) == max(0, len(seen) - len(wanted))
    assert bool(written)


def test_only_deleting_is_a_change_too() -> None:
    """Of what another generation has left."""
    written = diff([counters(), devices()], [*held(counters(), devices()), *held(devices(), generation=3)])
    assert (len(written.delete), written.update, written.create) == (1, (), ())
    assert bool(written)


def test_slices_keep_their_objects_whatever_their_order() -> None:
    """Told by what is in them, counters too: another order of the server's is no change."""
    assert not diff([counters(), devices(), devices(1)], held(devices(1), counters(), devices()))
