"""Whether a share takes more than it may, by the driver's figures.

Figures go in, alarms come out; `node.watchdog` acts on them.  A share may be above for a moment: the driver counts contexts
before the guard has learnt what they cost, and samples lag behind launches.  An alarm is therefore raised when the excess has
lasted for the grace, and ends when the share has kept to its limits for as long again.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Final

from hami_dra.api.opaque import Qos
from hami_dra.core.limits import Limits
from hami_dra.core.settings import WatchdogSettings

__all__ = ["Alarm", "Reading", "ShareWatch", "observe"]

_ALL_CORES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the driver says of one share."""

    memory_bytes: int
    busy: float | None
    """Fraction of the card's time since the last reading; None where the driver has nothing new to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Whether one limit is broken."""

    raised: bool = False
    since_s: float | None = None
    """Since when things are not as `raised` says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareWatch:
    """What is remembered of a share."""

    memory: Alarm = field(default_factory=Alarm)
    cores: Alarm = field(default_factory=Alarm)
    memory_bytes: int = 0
    """By the newest reading."""
    busy: float = 0.0
    """Fraction of the card, averaged over about the grace."""

    @property
    def above(self) -> bool:
        """Whether any alarm is raised."""
        return self.memory.raised or self.cores.raised


def observe(
    before: ShareWatch,
    reading: Reading,
    *,
    limits: Limits,
    settings: WatchdogSettings,
    now_s: float,
    elapsed_s: float,
) -> ShareWatch:
    """Book a reading.

    Args:
        before: what was known.
        reading: by the driver.
        limits: of the share.
        settings: of its card.
        now_s: a clock that never goes back.
        elapsed_s: since the reading before.
    """
    grace_s = float(settings.grace_s)
    allowed_bytes = limits.memory_limit_bytes or math.inf
    memory = _watch(
        before.memory,
        above=reading.memory_bytes > allowed_bytes + settings.memory_tolerance_bytes,
        within=reading.memory_bytes <= allowed_bytes + settings.memory_tolerance_bytes // 2,
        now_s=now_s,
        after_s=grace_s,
        until_s=grace_s,
    )
    busy = before.busy
    if reading.busy is not None:
        busy += (reading.busy - busy) * (1.0 - math.exp(-elapsed_s / grace_s))
    allowed = _allowed_percent(limits)
    percent = _ALL_CORES * busy
    cores = _watch(
        before.cores,
        above=percent > allowed + settings.cores_tolerance_percent,
        within=percent <= allowed + settings.cores_tolerance_percent / 2,
        now_s=now_s,
        after_s=0.0,  # the average has taken its time
        until_s=grace_s,
    )
    return replace(before, memory=memory, cores=cores, memory_bytes=reading.memory_bytes, busy=busy)


def _allowed_percent(limits: Limits) -> int:
    """Only a fixed share is held to its cores: the others may have what is idle."""
    return limits.cores_percent if limits.cores_percent and limits.qos is Qos.FIXED_SHARE else _ALL_CORES


def _watch(alarm: Alarm, *, above: bool, within: bool, now_s: float, after_s: float, until_s: float) -> Alarm:
    if within if alarm.raised else above:
        since_s = now_s if alarm.since_s is None else alarm.since_s
        if now_s - since_s >= (until_s if alarm.raised else after_s):
            return Alarm(raised=not alarm.raised)
        return replace(alarm, since_s=since_s)
    return replace(alarm, since_s=None)
