"""The factor between what a guard meters and what the device does."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.core.correction import NEUTRAL, Correction, correct, relax, retarget

SAMPLE_S = 1 / 6


def settled(target: float) -> Correction:
    """A share whose allotment has not changed for a while."""
    return retarget(retarget(NEUTRAL, target, 0.1), target, 5.0)


def feed(correction: Correction, busy: float, *, target: float, samples: int = 1, hungry: bool = True) -> Correction:
    """The same figure several times."""
    for _ in range(samples):
        correction = correct(correction, target=target, busy=busy, over_s=SAMPLE_S, hungry=hungry)
    return correction


@given(bias=st.floats(0.3, 5.0), target=st.floats(0.05, 0.5))
def test_it_converges_whatever_the_guard_believes(bias: float, target: float) -> None:
    """Ten seconds later the device does what was allotted, to a point and a half."""
    correction = settled(target)
    for _ in range(60):
        correction = feed(correction, min(1.0, target * correction.factor / bias), target=target)
    assert target * correction.factor / bias == pytest.approx(target, abs=0.015)


def test_it_is_bounded() -> None:
    """Figures that never move end in a bound, at most four times the card."""
    assert feed(settled(0.5), 0.9, target=0.5, samples=200).factor == 0.25
    assert feed(settled(0.5), 0.1, target=0.5, samples=200).factor == 8.0
    assert feed(settled(0.05), 0.01, target=0.05, samples=200).factor == 16.0
    assert feed(settled(1.0), 0.5, target=1.0, samples=200).factor == 4.0


def test_rounding_moves_nothing() -> None:
    """Whole percent cannot tell 30 from 30.9, and nothing at all about a floor of 1 %."""
    assert feed(settled(0.3), 0.31, target=0.3, samples=50).factor == 1.0
    assert feed(settled(0.01), 0.0, target=0.01, samples=50).factor == 1.0


def test_a_share_that_wants_no_more_is_not_raised() -> None:
    """It may still be lowered."""
    assert feed(settled(0.5), 0.1, target=0.5, samples=20, hungry=False).factor == 1.0
    assert feed(settled(0.5), 0.8, target=0.5, samples=20, hungry=False).factor < 1.0


def test_an_allotment_that_just_changed_is_waited_for() -> None:
    """The guard and the driver's figures need a moment to follow."""
    fresh = retarget(settled(0.3), 0.9, 0.1)
    assert feed(fresh, 0.3, target=0.9, samples=3).factor == 1.0
    assert feed(retarget(fresh, 0.9, 0.5), 0.3, target=0.9, samples=3).factor > 1.0


def test_long_kernels_do_not_swing_it() -> None:
    """A kernel of 200 ms at 10 % shows as 100, 20 and ten zeros: the mean is right, so the factor stays about where it is."""
    correction = settled(0.1)
    factors = []
    for _ in range(40):
        for busy in (1.0, 0.2, *[0.0] * 10):
            correction = feed(correction, busy, target=0.1)
            factors.append(correction.factor)
    assert 0.4 < min(factors) < max(factors) < 2.5
    assert sum(factors[-120:]) / 120 == pytest.approx(1.0, abs=0.35)


def test_without_figures_it_goes_back_to_the_guards_own_word() -> None:
    """Slowly, and all the way."""
    correction = feed(settled(0.5), 0.1, target=0.5, samples=5)
    assert 1.0 < relax(correction, 1.0).factor < correction.factor
    for _ in range(60):
        correction = relax(correction, 1.0)
    assert correction.factor == 1.0


def test_a_peak_is_remembered_for_one_piece_and_the_next() -> None:
    """So that a figure that comes every few seconds is never taken for a small one."""
    state = settled(0.1)
    peaks = []
    for busy in (1.0, *[0.0] * 12):
        state = correct(state, target=0.1, busy=busy, over_s=0.5, hungry=False)
        peaks.append((state.peak, state.peak_before, state.peak_s))
    assert peaks[:5] == [(1.0, 0.0, 0.5), (1.0, 0.0, 1.0), (1.0, 0.0, 1.5), (1.0, 0.0, 2.0), (1.0, 0.0, 2.5)]
    assert peaks[5] == (0.0, 1.0, 0.0)
    assert peaks[11] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("busy", "factor"), [(0.0, math.exp(0.5)), (1.0, math.exp(-0.5))])
def test_one_figure_moves_it_by_half_a_natural_power_at_most(busy: float, factor: float) -> None:
    """A figure that stands for seconds is still one figure."""
    assert correct(settled(0.5), target=0.5, busy=busy, over_s=5.0, hungry=True).factor == pytest.approx(factor)


def test_it_goes_back_with_a_time_constant_of_five_seconds() -> None:
    """And is there when it is within a hundredth."""
    assert relax(Correction(factor=2.0), 5.0).factor == pytest.approx(1.0 + math.exp(-1))
    assert relax(Correction(factor=2.0), 25.0).factor == 1.0
