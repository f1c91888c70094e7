"""How well each device of the node is: what was seen of it goes in, a verdict and its reasons come out.

Pure and free of any vendor's words: `vendors` say what happened (`Fault`) and how a card is when it is asked (`Pulse`), `step`
keeps the books of one card, `judge` says how all cards are, `core.taints` and `node.health_stream` pass that on.  A fault says
itself how it ends; nothing else ends it, so a card that needs a reset stays marked until there is evidence of one.
A partition has books of its own while something is wrong with it alone; its pulse is that of its card.
Invariant: every card that was ever seen has exactly one entry, so that one that is lost is reported and does not just fall
silent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto
from typing import Final

from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import card_of

__all__ = [
    "LOST",
    "CardHealth",
    "DeviceHealth",
    "Effect",
    "Ends",
    "Fault",
    "Pulse",
    "Sighting",
    "Verdict",
    "judge",
    "of_devices",
    "step",
    "why_unusable",
]

QUIET_S: Final = 600.0
"""A fault that concerns nobody but the program that ran into it is told for so long."""
SETTLED_S: Final = 10.0
"""A card that fell silent and answers for so long is back."""
SILENT_S: Final = 15.0
"""A driver that says nothing for longer gets no new work; a look that fails once is everyday life."""
_MOST_FAULTS: Final = 64
"""Remembered of one card: there are not that many kinds, and a vendor's table bounds them."""


class Verdict(Enum):
    """What kubelet can be told of a device."""

    HEALTHY = auto()
    UNHEALTHY = auto()
    UNKNOWN = auto()


class Effect(StrEnum):
    """What a fault means for work on the device; the words are those of a DeviceTaint."""

    NONE = "None"
    """Worth knowing, and no reason to keep anybody away."""
    NO_SCHEDULE = "NoSchedule"
    """Nothing new; what runs may go on."""
    NO_EXECUTE = "NoExecute"
    """Nothing can run there: pods are evicted."""


class Ends(StrEnum):
    """What ends a fault."""

    QUIET = "Quiet"
    """Time without another one."""
    ANSWER = "Answer"
    """The card answers again, and goes on doing so."""
    RESET = "Reset"
    """The card was reset, its driver loaded again, or the machine booted."""


_RANK: Final = {Effect.NO_EXECUTE: 0, Effect.NO_SCHEDULE: 1, Effect.NONE: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is wrong with a card, or was."""

    key: str
    """What kind of thing, as in the taint's key: `xid`, `ecc`, `lost`."""
    value: str
    """Which one: of a bounded set, fit for the value of a label."""
    effect: Effect
    ends: Ends
    message: str
    """For people: what it is, and what to do."""


LOST: Final = Fault(
    key="lost",
    value="true",
    effect=Effect.NO_EXECUTE,
    ends=Ends.ANSWER,
    message="the driver has lost this GPU: it fell off the bus or was removed; reset it or restart the node",
)
_SILENT: Final = Fault(
    key="driver",
    value="silent",
    effect=Effect.NO_SCHEDULE,
    ends=Ends.ANSWER,
    message="the driver does not answer",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """How a card is at the moment."""

    answers: bool = True
    standing: tuple[Fault, ...] = ()
    """What the card says of itself for as long as it is so; how these end does not matter."""
    wants_reset: bool = False
    """The driver says that the card must be reset."""
    errors: int | None = None
    """Uncorrected errors since the last reset; None where the card does not count them."""
    loads: int = 0
    """Changes whenever the driver was loaded anew."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A fault, and when it was last seen."""

    fault: Fault
    seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CardHealth:
    """The books of one card."""

    sightings: tuple[Sighting, ...] = ()
    """What happened and has not ended, the newest last; one for each key and value."""
    pulse: Pulse | None = None
    """The newest one; None before there was one."""
    answering_s: float = 0.0
    """Since when the card has answered without a break."""
    silent_s: float | None = None
    """Since when nobody could be asked; None while somebody can."""
    resets: int = 0
    """How often it was seen to have been reset, or its driver loaded anew: what it was told is then forgotten."""

    @property
    def lost(self) -> bool:
        """Whether the card does not answer while its driver does."""
        return self.pulse is not None and not self.pulse.answers

    def faults(self, *, now_s: float) -> tuple[Fault, ...]:
        """What is wrong, the worst first, and of equals the newest."""
        found = [LOST] if self.lost else []
        if self.silent_s is not None and now_s - self.silent_s >= SILENT_S:
            found.append(_SILENT)
        if self.pulse is not None:
            found += self.pulse.standing
        found += [sighting.fault for sighting in reversed(self.sightings)]
        return tuple(sorted(found, key=lambda fault: _RANK[fault.effect]))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceHealth:
    """One device."""

    name: DeviceName
    verdict: Verdict
    message: str = ""
    """For people; says why, unless the device is healthy."""
    faults: tuple[Fault, ...] = ()
    """The worst first."""


def step(before: CardHealth, *, pulse: Pulse | None, faults: Sequence[Fault] = (), now_s: float) -> CardHealth:
    """Book what was seen of a card since the step before.

    Args:
        before: its books.
        pulse: how it is; None where the driver could not be asked.
        faults: what happened, in order.
        now_s: a clock that never goes back.
    """
    if pulse is None:
        silent_s = now_s if before.silent_s is None else before.silent_s
        return replace(before, sightings=_add(before.sightings, faults, now_s), silent_s=silent_s)
    unbroken = pulse.answers and before.pulse is not None and before.pulse.answers
    answering_s = before.answering_s if unbroken else now_s
    reset = before.pulse is not None and _was_reset(before.pulse, pulse)

    def goes_on(sighting: Sighting) -> bool:
        if sighting.fault.ends is Ends.RESET:
            return not reset
        if sighting.fault.ends is Ends.ANSWER:
            return not pulse.answers or now_s - max(sighting.seen_s, answering_s) < SETTLED_S
        return now_s - sighting.seen_s < QUIET_S

    kept = tuple(sighting for sighting in before.sightings if goes_on(sighting))
    return CardHealth(
        sightings=_add(kept, faults, now_s), pulse=pulse, answering_s=answering_s, resets=before.resets + reset
    )


def _was_reset(before: Pulse, now: Pulse) -> bool:
    """Whether the card was reset in between, by any of the traces that this leaves."""
    if not now.answers:
        return False
    fewer = before.errors is not None and now.errors is not None and now.errors < before.errors
    relieved = before.wants_reset and not now.wants_reset
    return not before.answers or fewer or relieved or now.loads != before.loads


def _add(sightings: tuple[Sighting, ...], faults: Sequence[Fault], now_s: float) -> tuple[Sighting, ...]:
    for fault in faults:
        others = (s for s in sightings if (s.fault.key, s.fault.value) != (fault.key, fault.value))
        sightings = (*others, Sighting(fault, now_s))[-_MOST_FAULTS:]
    return sightings


def judge(
    cards: Mapping[DeviceName, CardHealth], *, failures: Mapping[DeviceName, str], now_s: float
) -> tuple[DeviceHealth, ...]:
    """The health of every card that was ever seen and of every partition with books, by name.

    Args:
        cards: the books.
        failures: for each device that was ever seen why its driver cannot be asked; empty where it can.
        now_s: as in `step`.
    """
    found: dict[DeviceName, DeviceHealth] = {}
    for name in sorted({*cards, *failures}):
        books, of_card = cards.get(name, CardHealth()), found.get(card_of(name))
        if of_card is not None:  # a card's name comes before those of its partitions
            books = CardHealth(sightings=books.sightings)
        health = _judge(name, books, failure=failures.get(name, ""), now_s=now_s)
        found[name] = health if of_card is None else _within(health, of_card)
    return tuple(found.values())


def of_devices(health: Sequence[DeviceHealth], names: Iterable[DeviceName]) -> tuple[DeviceHealth, ...]:
    """The same and, for parts of cards with which nothing is wrong but with their card, the card's under their names."""
    known = {device.name: device for device in health}
    parts = [name for name in names if name not in known and card_of(name) in known]
    return (*health, *(replace(known[card_of(name)], name=name) for name in sorted(parts)))


def why_unusable(health: Sequence[DeviceHealth], name: DeviceName, *, tolerated: Callable[[str], bool]) -> str:
    """Why no program could run on a device, by what is wrong with it or with its card; empty where one could.

    Args:
        health: of all devices.
        name: the device.
        tolerated: whether faults of a key are put up with; that of a card that does not answer cannot be.
    """
    faults = [fault for device in health if device.name in {name, card_of(name)} for fault in device.faults]
    fatal = [f for f in faults if f == LOST or (f.effect is Effect.NO_EXECUTE and not tolerated(f.key))]
    return "; ".join(dict.fromkeys(fault.message for fault in fatal))


def _within(part: DeviceHealth, card: DeviceHealth) -> DeviceHealth:
    """A part is no better than its card, whose faults remain the card's."""
    if card.verdict is Verdict.HEALTHY or part.verdict is Verdict.UNHEALTHY:
        return part
    return replace(part, verdict=card.verdict, message="; ".join(filter(None, (part.message, card.message))))


def _judge(name: DeviceName, card: CardHealth, *, failure: str, now_s: float) -> DeviceHealth:
    faults = card.faults(now_s=now_s)
    message = "; ".join(fault.message for fault in faults)
    if any(fault.effect is not Effect.NONE and fault != _SILENT for fault in faults):
        return DeviceHealth(name=name, verdict=Verdict.UNHEALTHY, message=message, faults=faults)
    if failure or _SILENT in faults:
        said = f"{_SILENT.message}: {failure}" if failure else message
        return DeviceHealth(name=name, verdict=Verdict.UNKNOWN, message=said, faults=faults)
    return DeviceHealth(name=name, verdict=Verdict.HEALTHY, message=message, faults=faults)
