"""Laws of the watchdog's alarms."""

from hypothesis import given
from hypothesis import strategies as st
from unit.core.test_watchdog import LIMITS, MIB, SETTINGS

from hami_dra.core.watchdog import Reading, ShareWatch, observe

READINGS = st.lists(
    st.tuples(st.floats(0.1, 30), st.integers(0, 2000), st.none() | st.floats(0, 1)), min_size=1, max_size=40
)


def played(readings: list[tuple[float, int, float | None]]) -> list[tuple[float, int, ShareWatch]]:
    """Moment, memory and state after each reading."""
    state, now_s, found = ShareWatch(), 0.0, []
    for elapsed_s, mib, busy in readings:
        now_s += elapsed_s
        reading = Reading(memory_bytes=mib * MIB, busy=busy)
        state = observe(state, reading, limits=LIMITS, settings=SETTINGS, now_s=now_s, elapsed_s=elapsed_s)
        found.append((now_s, mib, state))
    return found


@given(READINGS)
def test_memory_alarms_rise_and_end_only_after_the_grace(readings: list[tuple[float, int, float | None]]) -> None:
    """Each change of the alarm has the grace behind it, in which every reading spoke for the change."""
    history = played(readings)
    raised = False
    for index, (now_s, _, state) in enumerate(history):
        if state.memory.raised == raised:
            continue
        raised = state.memory.raised
        span = [(moment, mib) for moment, mib, _ in history[: index + 1] if moment >= now_s - SETTINGS.grace_s]
        assert all((mib > 1064) if raised else (mib <= 1032) for _, mib in span)
        assert now_s - history[0][0] >= SETTINGS.grace_s


@given(READINGS)
def test_the_average_stays_a_fraction(readings: list[tuple[float, int, float | None]]) -> None:
    """Whatever the pace of the readings."""
    assert all(0.0 <= state.busy <= 1.0 for _, _, state in played(readings))
