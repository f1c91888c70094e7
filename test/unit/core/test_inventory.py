"""Names of what a node has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.core.inventories import gpu

from hami_dra.core.inventory import Partition, parse_partition

EXTRAS = ("", "+me", "-me", "+gfx", "+me.all")


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("1g.10gb", "gpu-0000-17-00-0-mig-1g-10gb-2"),
        ("1g.10gb+me", "gpu-0000-17-00-0-mig-1g-10gb-me-2"),
        ("1g.24gb+me.all", "gpu-0000-17-00-0-mig-1g-24gb-me-all-2"),
        ("1g.24gb-me", "gpu-0000-17-00-0-mig-1g-24gb-no-me-2"),
        ("cpx", "gpu-0000-17-00-0-cpx-2"),
    ],
)
def test_a_partition_is_named_after_card_profile_and_place(profile: str, name: str) -> None:
    """Dots and plus signs are no part of a DNS label."""
    assert Partition(gpu=gpu().name, profile=profile, start=2).name == name


@given(slices=st.integers(1, 7), memory=st.integers(1, 999), extra=st.sampled_from(EXTRAS), start=st.integers(0, 15))
def test_a_name_says_which_partition_it_is(slices: int, memory: int, extra: str, start: int) -> None:
    """Parsing undoes naming, and no two partitions have one name."""
    partition = Partition(gpu=gpu().name, profile=f"{slices}g.{memory}gb{extra}", start=start)
    assert parse_partition(partition.name) == partition
    assert len(partition.name) <= 63


@given(mode=st.sampled_from(["dpx", "tpx", "qpx", "cpx"]), start=st.integers(0, 7))
def test_a_mode_of_the_card_is_a_profile_too(mode: str, start: int) -> None:
    """As AMD's compute modes are: named after card, mode and place, and parsed as what it is."""
    partition = Partition(gpu=gpu().name, profile=mode, start=start)
    assert parse_partition(partition.name) == partition


@pytest.mark.parametrize("name", ["gpu-0000-17-00-0", "gpu-0000-17-00-0-share-1", "gpu-0000-17-00-0-mig-1g-10gb", ""])
def test_other_devices_are_no_partitions(name: str) -> None:
    """A card, a fixed share, a name without a place."""
    assert parse_partition(name) is None
