"""Makes what the device really does for a share meet what the share was allotted.

The guard meters from inside a process and cannot tell its own kernels from a neighbour's time slices; the driver's figures can,
late (a sixth of a second) and coarse (whole percent).  So the guard's rate is multiplied by a factor that integrates the
error of the driver's figures.  The step is relative to the larger of target and recent peak: a kernel of 200 ms at 10 % shows as
100, 20, 0, 0, …, whose mean is right, and must not swing the factor.  The factor is bounded, and stands still while the error
is within the figures' rounding, while the share does not ask for more (anti-windup), and while its allotment just changed.
Invariant: with figures that are proportional to the rate the factor converges, whatever the proportion within its bounds.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["NEUTRAL", "Correction", "correct", "relax", "retarget"]

_GAIN: Final = 2.0
"""Per second; a loop with 0.4 s of delay is stable up to 3.9, and overshoots above 0.9 to 1.5."""
_LEAST: Final = 0.25
_MOST: Final = 16.0
_MOST_GRANTED: Final = 4.0
"""Of the whole card: what corrections may raise a grant to."""
_ROUNDING: Final = 0.011
_TOO_SMALL: Final = 0.02
"""Whole percent say nothing about a target as small as that."""
_PEAK_S: Final = 2.5
_RELAX_S: Final = 5.0
_SETTLE_S: Final = 0.5
_MOVED: Final = 0.02
_NEAR: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The factor of one share, and what it is based on."""

    factor: float = 1.0
    target: float = 0.0
    """The allotment that the figures are held against."""
    steady_s: float = 0.0
    """For how long the allotment has been that."""
    peak: float = 0.0
    """Largest of the driver's figures in the present piece of time,"""
    peak_before: float = 0.0
    """and in the piece before."""
    peak_s: float = 0.0
    """How old the present piece is."""


NEUTRAL: Final = Correction()


def retarget(correction: Correction, target: float, elapsed_s: float) -> Correction:
    """Note the allotment that is in force from now on."""
    if abs(correction.target - target) > _MOVED:
        return replace(correction, target=target, steady_s=0.0)
    return replace(correction, steady_s=correction.steady_s + elapsed_s)


def correct(correction: Correction, *, target: float, busy: float, over_s: float, hungry: bool) -> Correction:
    """Take in a figure of the driver.

    Args:
        correction: so far.
        target: what the figure ought to be, as a fraction of the card.
        busy: what it is.
        over_s: the time that it stands for.
        hungry: whether the share would use more than it gets.
    """
    seen = _peaked(correction, busy, over_s)
    error = target - busy
    settled = correction.steady_s >= _SETTLE_S and target > _TOO_SMALL
    if not settled or abs(error) <= _ROUNDING or (error > 0 and not hungry):
        return seen
    step = _GAIN * over_s * error / max(target, seen.peak, seen.peak_before)
    most = max(1.0, min(_MOST, _MOST_GRANTED / max(target, _ROUNDING)))
    factor = min(most, max(_LEAST, correction.factor * math.exp(min(0.5, max(-0.5, step)))))
    return replace(seen, factor=factor)


def _peaked(correction: Correction, busy: float, over_s: float) -> Correction:
    if correction.peak_s >= _PEAK_S:
        return replace(correction, peak=busy, peak_before=correction.peak, peak_s=0.0)
    return replace(correction, peak=max(busy, correction.peak), peak_s=correction.peak_s + over_s)


def relax(correction: Correction, elapsed_s: float) -> Correction:
    """Without figures, or with figures that cannot be: back to what the guard does by itself."""
    factor = _approach(correction.factor, 1.0, elapsed_s / _RELAX_S)
    return replace(correction, factor=1.0 if abs(factor - 1.0) <= _NEAR else factor)


def _approach(value: float, goal: float, time_constants: float) -> float:
    return goal + (value - goal) * math.exp(-time_constants)
