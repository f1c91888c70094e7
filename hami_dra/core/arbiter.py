"""Who may compute how much on one card, decided anew several times a second.

State and observations in, state and grants out.  `core.division` divides the card by promises, priorities and demand;
`core.correction` makes the driver's own figures meet that division.  What a share says of itself (demand, time charged) is a
tenant's word: a lie about demand wins idle time that nobody was promised, and never anybody's guaranteed cores.
A grant of 0 is no word at all: the guard then holds the share to its cores, as strictly as it can by itself.  Cards that need no
words get none, and fixed shares none while the driver's figures lack.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.correction import NEUTRAL, Correction, correct, relax, retarget
from hami_dra.core.division import Claimant, divide

__all__ = ["CardState", "Look", "ShareState", "Truth", "decide", "is_contested"]

_ACTIVE_S: Final = 0.15
"""Who has wanted nothing for so long is idle, and what it leaves is lent."""
_HUNGRY_S: Final = 0.3
"""Who was held back within that time would use more."""
_HELD_BACK_S: Final = 1.0
"""The same, but long enough for a long kernel to run in between."""
_WAKING_S: Final = 0.5
"""Who woke up since then has not shown yet how much it needs."""
_USE_S: Final = 0.4
_NEED_RATIO: Final = 1.25
_NEED_MORE: Final = 0.02
_TRUTH_S: Final = 1.0
"""Figures older than this say nothing about the present."""
_DOUBT_S: Final = 2.0
"""GPU time that the guard charges and the driver does not see for so long: the figures are about somebody else."""
_UNSURE_S: Final = 0.3
"""Long enough not to raise anybody on them."""
_FULL: Final = 0.9
_SATURATED: Final = 0.985
_ROUNDED_OFF: Final = 0.005
"""What a figure of whole percent hides on average."""
_PERMILLE: Final = 1000
_LEAST_PERMILLE: Final = 1
_EVEN: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is known of one share since the round before."""

    key: str
    cores_percent: int
    qos: Qos
    priority: Priority
    wanted: bool
    """It launched, or waited to launch."""
    throttled: bool
    """It was held back."""
    charged_ns: int
    """GPU time that its guard charged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """New figures of the driver about one card."""

    over_s: float
    """The time that they stand for."""
    busy: Mapping[str, float]
    """By share, as a fraction of that time; a share that is not here did nothing."""
    others: float = 0.0
    """The same for everybody who is no share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareState:
    """What is remembered of a share."""

    active: bool = False
    """Whether it computes, or wants to."""
    idle_s: float = math.inf
    """Since it last wanted something."""
    awake_s: float = 0.0
    """For how long it has been active."""
    fed_s: float = math.inf
    """Since it was last held back."""
    use: float = 0.0
    """Fraction of the card that it uses, smoothed."""
    unseen_s: float = 0.0
    """For how long the driver has seen nothing of what the guard charges."""
    busy: float = 0.0
    """By the driver's last figures."""
    correction: Correction = NEUTRAL


@dataclass(frozen=True, slots=True, kw_only=True)
class CardState:
    """What is remembered of a card."""

    shares: Mapping[str, ShareState] = field(default_factory=dict)
    truth_age_s: float = math.inf
    """Since the driver's last figures, but for the time in which nobody computed and nobody asked."""


def is_contested(looks: Sequence[Look], *, watched: bool) -> bool:
    """Whether the shares of a card need words: some were promised something, or some go before others.

    Fixed shares alone need a word only where somebody has the driver's figures to correct them by (`watched`).
    """
    promised = any(look.cores_percent for look in looks)
    elastic = any(look.qos is not Qos.FIXED_SHARE for look in looks)
    return (promised and (elastic or watched)) or len(
        {look.priority for look in looks if look.qos is not Qos.FIXED_SHARE}
    ) > 1


def decide(
    card: CardState, looks: Sequence[Look], *, elapsed_s: float, truth: Truth | None
) -> tuple[CardState, dict[str, int]]:
    """One round for one card.

    Args:
        card: what the round before returned.
        looks: one for each share of the card.
        elapsed_s: since the round before.
        truth: the driver's figures, if there are new ones.

    Returns:
        What to remember, and the compute granted to each share in thousandths of the card; 0: no word.
    """
    if not is_contested(looks, watched=True):
        return CardState(), {look.key: 0 for look in looks}
    waited_s = elapsed_s if any(look.wanted for look in looks) else 0.0
    age_s = 0.0 if truth is not None else card.truth_age_s + waited_s
    known = age_s <= _TRUTH_S
    shares = {
        look.key: _observe(card.shares.get(look.key, ShareState()), look, elapsed_s, truth, known=known)
        for look in looks
    }
    allotted = divide([_claimant(look, shares[look.key]) for look in looks])
    shares = _corrected(shares, allotted, truth, elapsed_s, known=known)
    grants = {look.key: _grant(look, allotted[look.key], shares[look.key], known=known) for look in looks}
    return CardState(shares=shares, truth_age_s=age_s), grants


def _observe(state: ShareState, look: Look, elapsed_s: float, truth: Truth | None, *, known: bool) -> ShareState:
    charged = look.charged_ns / 1e9 / elapsed_s
    busy = state.busy if truth is None else truth.busy.get(look.key, 0.0)
    used = min(1.0, busy if known else charged)
    smooth = used + (state.use - used) * math.exp(-elapsed_s / _USE_S)
    unseen = known and not busy and charged > 0
    idle_s = 0.0 if look.wanted else state.idle_s + elapsed_s
    # A kernel that runs for seconds launches nothing meanwhile, but the driver sees it fill what it was given.
    running = known and busy > 0 and busy >= _FULL * state.correction.target
    active = idle_s <= _ACTIVE_S or running
    return replace(
        state,
        active=active,
        idle_s=idle_s,
        awake_s=state.awake_s + elapsed_s if active else 0.0,
        fed_s=0.0 if look.throttled else state.fed_s + elapsed_s,
        use=max(used, smooth),
        unseen_s=state.unseen_s + elapsed_s if unseen else 0.0 if busy else state.unseen_s,
        busy=busy,
    )


def _claimant(look: Look, state: ShareState) -> Claimant:
    hungry = state.fed_s <= _HUNGRY_S or state.awake_s <= _WAKING_S
    return Claimant(
        key=look.key,
        guaranteed=look.cores_percent / 100,
        bursts=look.qos is not Qos.FIXED_SHARE,
        priority=look.priority,
        active=state.active,
        need=None if hungry else state.use * _NEED_RATIO + _NEED_MORE,
    )


def _corrected(
    shares: Mapping[str, ShareState],
    allotted: Mapping[str, float],
    truth: Truth | None,
    elapsed_s: float,
    *,
    known: bool,
) -> dict[str, ShareState]:
    fit = _fit(shares, truth) if truth is not None else 1.0
    corrected: dict[str, ShareState] = {}
    for key, state in shares.items():
        correction = state.correction
        if not known or state.unseen_s >= _DOUBT_S:
            correction = relax(correction, elapsed_s)
        elif truth is not None and state.awake_s > truth.over_s + elapsed_s:
            hungry = state.idle_s == 0 and state.fed_s <= _HELD_BACK_S and state.unseen_s <= _UNSURE_S
            target = correction.target * (fit if hungry else 1.0)
            correction = correct(correction, target=target, busy=state.busy, over_s=truth.over_s, hungry=hungry)
        corrected[key] = replace(state, correction=retarget(correction, allotted[key], elapsed_s))
    return corrected


def _fit(shares: Mapping[str, ShareState], truth: Truth) -> float:
    """On a card that has no time left, the hungry can only have what there is, in proportion to their allotments."""
    total = truth.others + sum(state.busy + _ROUNDED_OFF for state in shares.values() if state.busy)
    hungry = [state for state in shares.values() if state.fed_s <= _HELD_BACK_S]
    wanted = sum(state.correction.target for state in hungry)
    if total < _SATURATED or not wanted:
        return 1.0
    others = [state for state in shares.values() if state.fed_s > _HELD_BACK_S]
    too_much = sum(max(0.0, state.busy - state.correction.target) for state in others)
    return min(1.0, (sum(state.busy for state in hungry) + too_much) / wanted)


def _grant(look: Look, allotted: float, state: ShareState, *, known: bool) -> int:
    """A guard that has a word trusts that somebody watches the device; one that has none holds the share more strictly."""
    factor = state.correction.factor
    watched = known and state.unseen_s < _DOUBT_S
    promised = round(allotted * 100) == look.cores_percent
    if look.qos is Qos.FIXED_SHARE and not watched and abs(factor - 1.0) <= _EVEN and promised:
        return 0
    return max(_LEAST_PERMILLE, round(allotted * factor * _PERMILLE))
