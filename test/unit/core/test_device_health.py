"""What is made of what is seen of a card."""

from dataclasses import replace

import pytest

from hami_dra.core.device_health import (
    LOST,
    QUIET_S,
    SETTLED_S,
    SILENT_S,
    CardHealth,
    DeviceHealth,
    Effect,
    Ends,
    Fault,
    Pulse,
    Verdict,
    judge,
    of_devices,
    step,
    why_unusable,
)
from hami_dra.core.ids import DeviceName

NAME = DeviceName("gpu-0000-17-00-0")
PROGRAM = Fault(key="xid", value="31", effect=Effect.NONE, ends=Ends.QUIET, message="page fault")
FINE = Pulse(errors=0)
GONE = Pulse(answers=False)


def fault(ends: Ends, effect: Effect = Effect.NO_SCHEDULE, value: str = "1") -> Fault:
    """A fault that ends so."""
    return Fault(key="xid", value=value, effect=effect, ends=ends, message=f"fault {value}")


def seen(card: CardHealth, *, now_s: float) -> list[str]:
    """What is wrong, as key and value."""
    return [f"{found.key}={found.value}" for found in card.faults(now_s=now_s)]


def told(card: CardHealth, *, now_s: float = 0.0, failure: str = "") -> DeviceHealth:
    """What is said of the card."""
    (device,) = judge({NAME: card}, failures={NAME: failure}, now_s=now_s)
    return device


def test_a_card_that_answers_is_healthy() -> None:
    """Nothing more is to be said of it."""
    device = told(step(CardHealth(), pulse=FINE, now_s=0.0))
    assert (device.verdict, device.message, device.faults) == (Verdict.HEALTHY, "", ())


def test_a_card_that_was_seen_and_never_asked_is_healthy() -> None:
    """Between the first look at the hardware and the first pulse there is nothing to hold against it."""
    assert judge({}, failures={NAME: ""}, now_s=0.0) == (DeviceHealth(name=NAME, verdict=Verdict.HEALTHY),)


def test_a_lost_card_is_unhealthy_until_it_answers() -> None:
    """The driver answers and says that the card does not: nothing can run there."""
    lost = step(CardHealth(), pulse=GONE, now_s=0.0)
    assert lost.lost
    assert told(lost).verdict is Verdict.UNHEALTHY
    assert told(lost).faults == (LOST,)
    back = step(lost, pulse=FINE, now_s=1.0)
    assert not back.lost
    assert told(back).verdict is Verdict.HEALTHY


def test_what_only_concerns_a_program_is_told_and_forgotten() -> None:
    """The card stays healthy, the message says what happened, and after a quiet time nobody hears of it."""
    card = step(CardHealth(), pulse=FINE, faults=[fault(Ends.QUIET, Effect.NONE)], now_s=0.0)
    assert (told(card).verdict, told(card).message) == (Verdict.HEALTHY, "fault 1")
    again = step(card, pulse=FINE, faults=[fault(Ends.QUIET, Effect.NONE)], now_s=QUIET_S - 1)
    assert seen(step(again, pulse=FINE, now_s=2 * QUIET_S - 2), now_s=0) == ["xid=1"]
    assert seen(step(again, pulse=FINE, now_s=2 * QUIET_S), now_s=0) == []


RESETS = {
    "lost and back": (FINE, [GONE, FINE]),
    "fewer errors": (Pulse(errors=3), [Pulse(errors=0)]),
    "the driver is content": (Pulse(wants_reset=True), [Pulse()]),
    "the driver was loaded again": (Pulse(loads=1), [Pulse(loads=2)]),
}


@pytest.mark.parametrize("before,after", RESETS.values(), ids=RESETS)  # noqa: PT006 - one value a trace
def test_a_reset_ends_what_needs_one(before: Pulse, after: list[Pulse]) -> None:
    """Whatever trace it leaves; without a trace the fault stays for good."""
    card = step(CardHealth(), pulse=before, now_s=0.0)
    card = step(card, pulse=before, faults=[fault(Ends.RESET)], now_s=1.0)
    later = step(card, pulse=before, now_s=1e6)
    assert told(later).verdict is Verdict.UNHEALTHY
    for pulse in after:
        later = step(later, pulse=pulse, now_s=1e6 + 1)
    assert told(later).verdict is Verdict.HEALTHY


def test_more_errors_are_no_reset() -> None:
    """Nor is a count that is not known any more."""
    card = step(CardHealth(), pulse=FINE, faults=[fault(Ends.RESET)], now_s=0.0)
    for pulse in (Pulse(errors=5), Pulse(), Pulse(errors=5), Pulse(errors=5, wants_reset=True)):
        card = step(card, pulse=pulse, now_s=1.0)
    assert seen(card, now_s=1.0) == ["xid=1"]


def test_a_card_that_fell_off_the_bus_is_back_when_it_goes_on_answering() -> None:
    """One answer may be luck: the fault ends after a while of answers without a break."""
    card = step(CardHealth(), pulse=FINE, now_s=0.0)
    card = step(card, pulse=GONE, faults=[fault(Ends.ANSWER, Effect.NO_EXECUTE)], now_s=1.0)
    card = step(card, pulse=FINE, now_s=100.0)
    assert seen(card, now_s=100.0) == ["xid=1"]
    card = step(card, pulse=FINE, now_s=100.0 + SETTLED_S - 1)
    card = step(card, pulse=GONE, now_s=100.0 + SETTLED_S)
    card = step(card, pulse=FINE, now_s=101.0 + SETTLED_S)
    assert seen(step(card, pulse=FINE, now_s=2 * SETTLED_S + 100.0), now_s=0) == ["xid=1"]
    assert seen(step(card, pulse=FINE, now_s=2 * SETTLED_S + 101.0), now_s=0) == []


def test_a_driver_that_says_nothing_gets_no_new_work_after_a_while() -> None:
    """What was known stays known; a single failed look is everyday life, and an answer ends it."""
    card = step(CardHealth(), pulse=FINE, faults=[fault(Ends.RESET)], now_s=0.0)
    quiet = step(step(card, pulse=None, now_s=1.0), pulse=None, faults=[fault(Ends.QUIET, value="2")], now_s=2.0)
    assert seen(quiet, now_s=SILENT_S) == ["xid=2", "xid=1"]
    assert seen(quiet, now_s=1.0 + SILENT_S) == ["driver=silent", "xid=2", "xid=1"]
    assert seen(step(quiet, pulse=FINE, now_s=3.0), now_s=60.0) == ["xid=2", "xid=1"]


def test_nobody_knows_while_the_driver_does_not_answer() -> None:
    """The reason is the driver's where discovery has one; a card that is known to be broken stays so."""
    card = step(step(CardHealth(), pulse=FINE, now_s=0.0), pulse=None, now_s=0.0)
    assert told(card, failure="timeout").verdict is Verdict.UNKNOWN
    assert told(card, failure="timeout").message == "the driver does not answer: timeout"
    assert told(card, now_s=SILENT_S).verdict is Verdict.UNKNOWN
    assert told(card, now_s=SILENT_S).message == "the driver does not answer"
    broken = step(card, pulse=None, faults=[fault(Ends.RESET)], now_s=1.0)
    assert told(broken, failure="timeout").verdict is Verdict.UNHEALTHY


def test_the_worst_comes_first_and_of_equals_the_newest() -> None:
    """What stands at the moment goes with what happened; a fault that comes again is the newest."""
    standing = replace(fault(Ends.RESET, Effect.NONE), key="rows")
    faults = [fault(Ends.RESET, value="1"), fault(Ends.RESET, value="2"), fault(Ends.RESET, value="1")]
    card = step(CardHealth(), pulse=Pulse(standing=(standing,)), faults=faults, now_s=0.0)
    card = step(card, pulse=Pulse(standing=(standing,)), faults=[fault(Ends.RESET, Effect.NO_EXECUTE, "3")], now_s=1.0)
    assert seen(card, now_s=1.0) == ["xid=3", "xid=1", "xid=2", "rows=1"]
    assert seen(step(card, pulse=Pulse(), now_s=2.0), now_s=2.0) == ["xid=3", "xid=1", "xid=2"]


def test_a_card_that_never_stops_is_remembered_in_bounded_memory() -> None:
    """The oldest is forgotten first."""
    card = step(CardHealth(), pulse=FINE, faults=[fault(Ends.RESET, value=str(n)) for n in range(100)], now_s=0.0)
    assert len(card.sightings) == 64
    assert seen(card, now_s=0.0)[0] == "xid=99"


def test_a_fault_of_a_partition_is_not_its_cards() -> None:
    """The partition has books while it has faults; it is no better than its card."""
    part = DeviceName(f"{NAME}-mig-1g-10gb-0")
    dead = replace(PROGRAM, effect=Effect.NO_EXECUTE, ends=Ends.RESET)
    books = step(CardHealth(), pulse=Pulse(), faults=[dead], now_s=0.0)
    well = step(CardHealth(), pulse=Pulse(), now_s=0.0)
    card, of_part = judge({NAME: well, part: books}, failures={}, now_s=0.0)
    assert (card.verdict, card.faults) == (Verdict.HEALTHY, ())
    assert (of_part.name, of_part.verdict, of_part.faults) == (part, Verdict.UNHEALTHY, (dead,))
    told = step(CardHealth(), pulse=Pulse(answers=False), faults=[PROGRAM], now_s=0.0)
    lost = step(CardHealth(), pulse=Pulse(answers=False), now_s=0.0)
    card, of_part = judge({NAME: lost, part: told}, failures={}, now_s=0.0)
    assert (of_part.verdict, of_part.faults) == (Verdict.UNHEALTHY, (PROGRAM,))
    assert of_part.message == f"{PROGRAM.message}; {LOST.message}"
    (alone,) = judge({part: books}, failures={}, now_s=0.0)
    assert alone.verdict is Verdict.UNHEALTHY


def test_parts_of_which_nothing_is_known_are_as_their_cards() -> None:
    """Those that somebody wants to hear of; a part of a card that nobody has seen is not told of."""
    part, other = DeviceName(f"{NAME}-share-0"), DeviceName("gpu-0000-99-00-0-share-0")
    health = judge({NAME: step(CardHealth(), pulse=Pulse(answers=False), now_s=0.0)}, failures={}, now_s=0.0)
    (card, of_part) = of_devices(health, [other, part, NAME])
    assert card == health[0]
    assert of_part == replace(card, name=part)


def test_a_device_is_unusable_while_nothing_can_run_there() -> None:
    """By its own faults and its card's; what a claim tolerates does not count, but a card that does not answer serves nobody."""
    part, other = DeviceName(f"{NAME}-mig-1g-10gb-0"), DeviceName(f"{NAME}-mig-1g-10gb-1")
    dead = fault(Ends.RESET, Effect.NO_EXECUTE, "95")
    books = {
        NAME: step(CardHealth(), pulse=FINE, faults=[PROGRAM, fault(Ends.RESET)], now_s=0.0),
        part: step(CardHealth(), pulse=FINE, faults=[dead], now_s=0.0),
    }

    def unusable(name: DeviceName, *keys: str) -> str:
        return why_unusable(judge(books, failures={}, now_s=0.0), name, tolerated=lambda key: key in keys)

    assert [unusable(part), unusable(other), unusable(NAME)] == ["fault 95", "", ""]
    assert unusable(part, "ecc") == "fault 95"
    assert unusable(part, "xid") == ""
    books[NAME] = step(books[NAME], pulse=GONE, now_s=1.0)
    assert unusable(other, "lost", "xid") == LOST.message
