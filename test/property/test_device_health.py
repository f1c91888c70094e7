"""Laws of the books of a card, whatever is seen of it."""

from hypothesis import given
from hypothesis import strategies as st

from hami_dra.core.device_health import (
    QUIET_S,
    SETTLED_S,
    CardHealth,
    Effect,
    Ends,
    Fault,
    Pulse,
    Verdict,
    judge,
    step,
)
from hami_dra.core.health_record import from_json, to_json
from hami_dra.core.ids import DeviceName

NAME = DeviceName("gpu-0")
FAULTS = st.builds(
    Fault,
    key=st.sampled_from(["xid", "ecc"]),
    value=st.sampled_from(["13", "48", "79"]),
    effect=st.sampled_from(Effect),
    ends=st.sampled_from(Ends),
    message=st.just("m"),
)
PULSES = st.builds(
    Pulse,
    answers=st.booleans(),
    standing=st.lists(FAULTS, max_size=2).map(tuple),
    wants_reset=st.booleans(),
    errors=st.none() | st.integers(0, 3),
    loads=st.integers(0, 2),
)
STEPS = st.lists(st.tuples(st.floats(0, 700), st.none() | PULSES, st.lists(FAULTS, max_size=3)), max_size=20)
Steps = list[tuple[float, Pulse | None, list[Fault]]]


def played(steps: Steps) -> tuple[CardHealth, float]:
    """The books after these steps, and when that was."""
    card, now_s = CardHealth(), 0.0
    for passed_s, pulse, faults in steps:
        now_s += passed_s
        card = step(card, pulse=pulse, faults=faults, now_s=now_s)
    return card, now_s


@given(STEPS)
def test_a_card_is_unhealthy_exactly_when_it_has_a_fault_that_keeps_work_away(steps: Steps) -> None:
    """Slices, kubelet and metrics tell one story: the verdict follows from the faults and from nothing else."""
    card, now_s = played(steps)
    (device,) = judge({NAME: card}, failures={}, now_s=now_s)
    keeps_away = [fault for fault in device.faults if fault.effect is not Effect.NONE]
    assert (device.verdict is Verdict.HEALTHY) == (not keeps_away)
    ranks = [list(Effect)[::-1].index(fault.effect) for fault in device.faults]
    assert ranks == sorted(ranks)


@given(STEPS, st.lists(FAULTS, min_size=1, max_size=3))
def test_no_fault_goes_unseen(steps: Steps, faults: list[Fault]) -> None:
    """Whatever just happened is told, under its newest meaning."""
    card, now_s = played([*steps, (1.0, Pulse(), faults)])
    newest = {(fault.key, fault.value): fault for fault in faults}
    assert set(newest.values()) <= set(card.faults(now_s=now_s))
    assert len({(s.fault.key, s.fault.value) for s in card.sightings}) == len(card.sightings)


@given(STEPS)
def test_a_reset_and_time_heal_every_card(steps: Steps) -> None:
    """No history leaves a mark for good: recovery needs no restart of anything."""
    card, now_s = played([*steps, (0.0, Pulse(answers=False), []), (0.0, Pulse(), [])])
    later_s = now_s + max(QUIET_S, SETTLED_S) + 1
    assert step(card, pulse=Pulse(), now_s=later_s).faults(now_s=later_s) == ()


@given(STEPS, st.lists(st.floats(0, 1000), min_size=1, max_size=5))
def test_nothing_but_a_trace_of_a_reset_ends_a_fault_that_needs_one(steps: Steps, pauses: list[float]) -> None:
    """Time and good answers do not."""
    card, now_s = played([*steps, (1.0, Pulse(errors=1), [])])
    needy = {s.fault for s in card.sightings if s.fault.ends is Ends.RESET}
    for passed_s in pauses:
        now_s += passed_s
        card = step(card, pulse=Pulse(errors=1), now_s=now_s)
    assert needy == {s.fault for s in card.sightings if s.fault.ends is Ends.RESET}


@given(STEPS)
def test_a_new_process_keeps_work_away_as_the_old_one_did(steps: Steps) -> None:
    """What needs a reset outlives the process that saw it."""
    card, now_s = played([*steps, (0.0, Pulse(), [])])
    again = from_json(to_json({NAME: card}, boot="b"), boot="b").get(NAME, CardHealth())
    needy = [s.fault for s in card.sightings if s.fault.ends is Ends.RESET]
    assert [s.fault for s in again.sightings] == needy
    assert [s.fault for s in step(again, pulse=Pulse(), now_s=now_s).sightings] == needy
