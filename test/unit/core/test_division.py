"""Who gets how much of a card."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.api.opaque import Priority
from hami_dra.core.division import Claimant, divide


def claimant(key: str, guaranteed: float = 0.0, **changes: object) -> Claimant:
    """A hungry share of normal priority that may use idle time."""
    fields: dict[str, object] = {"bursts": True, "priority": Priority.NORMAL, "active": True, "need": None}
    return Claimant(key=key, guaranteed=guaranteed, **(fields | changes))  # type: ignore[arg-type] # keywords of Claimant


def fixed(key: str, guaranteed: float, **changes: object) -> Claimant:
    """A share that never gets more than its cores."""
    return claimant(key, guaranteed, bursts=False, **changes)


def test_idle_time_is_divided_by_cores() -> None:
    """Two that burst share what is left as they share what is theirs."""
    given = divide([claimant("a", 0.3), claimant("b", 0.1)])
    assert given == pytest.approx({"a": 0.75, "b": 0.25})


def test_a_fixed_share_gets_its_cores_and_no_more() -> None:
    """Whatever is idle, and whether it is awake or not."""
    for active in (True, False):
        assert divide([fixed("a", 0.3, active=active)]) == {"a": 0.3}


def test_what_a_sleeping_share_leaves_is_lent() -> None:
    """All of it; and the sleeper is promised its guarantee for the moment it wakes up."""
    assert divide([fixed("a", 0.6, active=False), claimant("b", 0.2)]) == pytest.approx({"a": 0.6, "b": 1.0})
    assert divide([claimant("a", 0.6, active=False), claimant("b", 0.2)]) == pytest.approx({"a": 0.6, "b": 1.0})


def test_what_a_moderate_share_leaves_is_lent() -> None:
    """Who is known to use 20 of its 50 percent lends the other 30, and keeps its right to them."""
    assert divide([claimant("a", 0.5, need=0.2), claimant("b")]) == pytest.approx({"a": 0.5, "b": 0.8})


def test_what_several_do_not_need_goes_round_by_weight() -> None:
    """Each that has enough leaves its part to the rest, and the rest divide it as they are promised."""
    given = divide(
        [claimant("a", 0.1, need=0.15), claimant("b", 0.2, need=0.3), claimant("c", 0.2), claimant("d", 0.1)]
    )
    # 0.15 + 0.3, and of the other 0.55 the promised 0.3 and two and one third of what is left
    assert given == pytest.approx({"a": 0.15, "b": 0.3, "c": 0.55 * 2 / 3, "d": 0.55 / 3})


def test_an_active_share_of_no_cores_has_what_is_left_by_turns() -> None:
    """Equals among those who were promised nothing; a sleeper finds the floor."""
    given = divide([fixed("a", 0.7), claimant("b"), claimant("c"), claimant("d", active=False)])
    assert given == pytest.approx({"a": 0.7, "b": 0.15, "c": 0.15, "d": 0.01})


def test_priorities_go_first_to_last_and_nobody_starves() -> None:
    """High takes all that is idle, then Normal, then Low; a floor is left to those without cores."""
    shares = [claimant("low", priority=Priority.LOW), claimant("high", priority=Priority.HIGH), claimant("normal")]
    assert divide(shares) == pytest.approx({"high": 0.98 + 0.02 / 3, "normal": 0.02 / 3, "low": 0.02 / 3})
    modest = [claimant("low", priority=Priority.LOW), claimant("high", priority=Priority.HIGH, need=0.4)]
    assert divide(modest) == pytest.approx({"high": 0.4, "low": 0.6})


def test_bursts_go_before_best_effort() -> None:
    """Of the same priority: who has cores of its own has the first word about idle time too."""
    assert divide([claimant("a", 0.2), claimant("b"), claimant("c")]) == pytest.approx(
        {"a": 0.98, "b": 0.01, "c": 0.01}
    )


def test_guarantees_do_not_bow_to_priorities() -> None:
    """A Low share's cores are its own."""
    shares = [claimant("low", 0.5, priority=Priority.LOW), claimant("high", 0.2, priority=Priority.HIGH)]
    assert divide(shares) == pytest.approx({"low": 0.5, "high": 0.5})


def test_more_than_a_whole_card_is_scaled() -> None:
    """The scheduler never promises that; should it happen, everybody loses in proportion."""
    assert divide([fixed("a", 0.9), fixed("b", 0.6)]) == pytest.approx({"a": 0.6, "b": 0.4})


def test_what_nobody_wants_is_open_to_all() -> None:
    """Room is not withheld from whom it does not hurt: who uses little may use more at once."""
    assert divide([claimant("a", 0.3, need=0.1), claimant("b", need=0.2)]) == pytest.approx({"a": 1.0, "b": 0.9})
    assert divide([claimant("a", active=False)]) == {"a": 1.0}


SHARES = st.lists(
    st.builds(
        claimant,
        key=st.just("x"),
        guaranteed=st.integers(0, 60).map(lambda cores: cores / 100),
        bursts=st.booleans(),
        priority=st.sampled_from(Priority),
        active=st.booleans(),
        need=st.none() | st.floats(0, 1),
    ),
    max_size=8,
)


@given(made=SHARES)
def test_guarantees_hold_and_hungry_shares_never_have_more_than_the_card(made: list[Claimant]) -> None:
    """Whoever wants what: each has its cores, none has nothing, and what is handed out beyond that was idle."""
    shares = [
        Claimant(
            key=str(index),
            guaranteed=share.guaranteed,
            bursts=share.bursts or not share.guaranteed,
            priority=share.priority,
            active=share.active,
            need=share.need,
        )
        for index, share in enumerate(made)
    ]
    given = divide(shares)
    scale = max(1.0, sum(share.guaranteed for share in shares))
    for share in shares:
        assert share.guaranteed / scale - 1e-9 <= given[share.key] <= 1.0 + 1e-9
        assert given[share.key] > 0
    hungry = [share for share in shares if share.active and share.need is None]
    if any(share.bursts for share in hungry):
        assert sum(given[share.key] for share in hungry) <= 1.02 + 1e-9
