"""Figures about processes as figures about shares."""

import pytest

from hami_dra.core.arbiter import Truth
from hami_dra.core.figures import Figures, attribute

OWNERS = {1: ["a"], 2: ["b", "a"], 3: ["elsewhere"]}


def owner(pid: int) -> list[str]:
    """Whose process it is."""
    return OWNERS.get(pid, [])


def test_processes_of_a_share_add_up() -> None:
    """A process with two shares of the card counts for the first; who has none counts among the others."""
    figures = Figures(at_us=1_500_000, busy={1: 0.25, 2: 0.125, 3: 0.0625, 4: 0.5})
    truth = attribute(figures, since_us=1_000_000, owner=owner, shares=["a", "b"])
    assert truth == Truth(over_s=0.5, busy={"a": 0.375}, others=0.5625)


def test_more_than_a_whole_card_is_a_whole_card() -> None:
    """Processes that run at the same time add up to more."""
    figures = Figures(at_us=1_000_000, busy={1: 0.75, 2: 0.75, 3: 0.75, 4: 0.75})
    truth = attribute(figures, since_us=0, owner=owner, shares=["a"])
    assert (truth.busy, truth.others) == ({"a": 1.0}, 1.0)


@pytest.mark.parametrize(("at_us", "over_s"), [(10, 0.05), (0, 0.05), (60_000_000, 2.0)])
def test_the_time_that_figures_stand_for_is_bounded(at_us: int, over_s: float) -> None:
    """A clock that stands still, or a gap of a minute, moves nothing far."""
    assert attribute(Figures(at_us=at_us, busy={}), since_us=5, owner=owner, shares=[]).over_s == over_s
