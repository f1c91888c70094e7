"""Bounds of the back-off."""

from hypothesis import given
from hypothesis import strategies as st

from hami_dra._lib.backoff import Backoff


@given(
    base_s=st.floats(0.001, 10),
    cap_s=st.floats(0.001, 100),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=80),
)
def test_no_delay_exceeds_the_exponential_bound_or_the_cap(base_s: float, cap_s: float, draws: list[float]) -> None:
    """The n-th delay lies between nothing and min(cap, base·2ⁿ), for any draw."""
    left = iter(draws)
    backoff = Backoff(base_s, cap_s, lambda: next(left))
    for n in range(len(draws)):
        bound_s = backoff.bound_s()
        assert bound_s == min(cap_s, base_s * 2.0 ** min(n, 60))
        assert 0 <= backoff.next_s() <= bound_s


def test_a_reset_starts_over() -> None:
    """After success the next failure waits as briefly as the first one did."""
    backoff = Backoff(1.0, 60.0, lambda: 0.5)
    assert [backoff.next_s() for _ in range(3)] == [0.5, 1.0, 2.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_the_jitter_comes_on_top_of_what_the_server_asked_for() -> None:
    """Clients that were told the same Retry-After do not come back at the same moment."""
    assert Backoff(2.0, 60.0, lambda: 0.5).next_s(at_least_s=5.0) == 6.0


def test_a_thousand_failures_do_not_overflow() -> None:
    """However long an outage lasts, the delay stays at the cap."""
    backoff = Backoff(
        1.0,
        30.0,
        lambda: 0.5,
    )
    backoff.failures = 5000
    assert backoff.next_s() == 15.0
