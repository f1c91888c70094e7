"""Laws of MIG's geometry, whatever the order of changes."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.simgpu.node import Node

from hacklib.native import Preset
from native.simgpu.nvml import nvml_session, placement, placements, profiles

ENABLE = 1
INVALID = pynvml.NVML_ERROR_INVALID_ARGUMENT
NO_ROOM = pynvml.NVML_ERROR_INSUFFICIENT_RESOURCES
STEPS = st.lists(st.tuples(st.sampled_from(["create", "place", "destroy"]), st.integers(0, 50), st.integers(0, 7)))


def overlaps(held: list[tuple[int, int]]) -> bool:
    """Whether two placements share a memory slice."""
    slices = [slot for start, size in held for slot in range(start, start + size)]
    return len(slices) != len(set(slices))


@settings(max_examples=25, deadline=None)
@given(model=st.sampled_from(["A100", "H100", "A30"]), steps=STEPS)
def test_no_sequence_of_changes_breaks_the_geometry(
    simgpu: Path, model: str, steps: list[tuple[str, int, int]]
) -> None:
    """Instances never overlap; what NVML says fits, fits, and what it says does not, does not; emptied, the card is new."""
    with tempfile.TemporaryDirectory() as folder:
        node = Node(root=Path(folder) / "node", build=simgpu)
        assert node.create("--model", model).status == 0
        with nvml_session(node) as nvml:
            card = nvml.card()
            nvml.call("DeviceSetMigMode", card, ENABLE)
            rows = sorted(row["id"] for row in profiles(nvml, card).values())
            spots = {row: placements(nvml, card, row) for row in rows}
            empty = {row: nvml.call("DeviceGetGpuInstanceRemainingCapacity", card, row) for row in rows}
            made: list[Any] = []
            for verb, number, start in steps:
                row = rows[number % len(rows)]
                left = nvml.call("DeviceGetGpuInstanceRemainingCapacity", card, row)
                if verb == "destroy" and made:
                    nvml.call("GpuInstanceDestroy", made.pop(number % len(made)))
                    continue
                name, extra = "DeviceCreateGpuInstance", []
                if verb == "place":
                    name, extra = "DeviceCreateGpuInstanceWithPlacement", [placement(start, spots[row][0][1])]
                nvml.send(f"nvml{name}", card, row, *extra)
                answer = nvml.receive()
                if "value" in answer:
                    made.append(answer["value"])
                assert ("value" in answer) <= (left > 0)
                assert ("value" in answer) == (left > 0) or verb != "create"
                if "error" in answer:
                    possible = verb != "place" or (start, spots[row][0][1]) in spots[row]
                    assert answer["error"] == (NO_ROOM if possible else INVALID)
                infos = [nvml.call("GpuInstanceGetInfo", instance)["placement"] for instance in made]
                assert not overlaps([(info["start"], info["size"]) for info in infos])
            for instance in made:
                nvml.call("GpuInstanceDestroy", instance)
            assert empty == {row: nvml.call("DeviceGetGpuInstanceRemainingCapacity", card, row) for row in rows}


@pytest.mark.parametrize("preset", ["release", "asan", "tsan"])
def test_threads_cut_one_card_at_once(
    make_node: Callable[..., Node], sanitized: Callable[[Preset], Path], preset: Preset
) -> None:
    """Four threads make and destroy instances while one waits for their events and one looks at the devices."""
    node = make_node("--model", "A100", build=sanitized(preset))
    done = node.run([node.build / "manage"])
    assert (done.status, done.err) == (0, "")
    assert node.cards()[0]["mig"] == {"enabled": False, "pending": False, "instances": []}
