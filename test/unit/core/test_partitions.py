"""Counters keep partitions apart."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from unit.core.inventories import MIG, gpu

from hami_dra.api.k8s import CounterConsumption
from hami_dra.core.partitions import Placement, counter_set, placements, whole_card

CARD = gpu(mig=MIG)
PLACES = placements(CARD)
TOTALS = {name: int(counter["value"]) for name, counter in counter_set(CARD)["counters"].items()}


def fits(consumptions: list[CounterConsumption]) -> bool:
    """Whether the scheduler would allocate all of these."""
    used = dict.fromkeys(TOTALS, 0)
    for each in consumptions:
        assert each["counterSet"] == counter_set(CARD)["name"]
        for name, counter in each["counters"].items():
            used[name] += int(counter["value"])
    return all(used[name] <= TOTALS[name] for name in TOTALS)


def names(places: list[Placement]) -> list[str]:
    """Profile and place, for people."""
    return [f"{place.partition.profile}@{place.partition.start}" for place in places]


@given(st.lists(st.sampled_from(PLACES), unique=True, max_size=8))
def test_what_the_counters_accept_never_overlaps(chosen: list[Placement]) -> None:
    """Whatever set of partitions the scheduler allocates, no two need one memory slice, and one media engine is given once."""
    apart = all(not a.overlaps(b) for a in chosen for b in chosen if a is not b)
    media = sum(place.partition.profile.endswith("+me") for place in chosen)
    slices = sum(place.profile.compute_slices for place in chosen)
    assert fits([place.consumption for place in chosen]) == (apart and media <= 1 and slices <= 7)


@given(st.sampled_from(PLACES))
def test_the_whole_card_goes_with_no_partition(place: Placement) -> None:
    """It takes all counters, and alone it fits."""
    assert fits([whole_card(CARD)])
    assert not fits([whole_card(CARD), place.consumption])


def test_small_partitions_come_first_where_they_spoil_least() -> None:
    """The scheduler takes the first that fits: the places for large partitions stay free as long as others will do."""
    order = names(list(PLACES))
    assert order[0] == "1g.10gb@6"
    assert order[-1] == "7g.80gb@0"
    assert [name for name in order if name.startswith("1g.10gb@")][:3] == ["1g.10gb@6", "1g.10gb@4", "1g.10gb@5"]
    assert len(order) == 25


def test_counters_stay_within_the_api() -> None:
    """32 in a set; nothing that the card does not have is counted."""
    assert len(TOTALS) <= 32
    assert TOTALS["compute-slices"] == 7
    assert TOTALS["jpeg-engines"] == 1
    assert "decoders" not in TOTALS
    assert counter_set(replace(CARD, mig=None))["counters"] == {}
