"""What is remembered of the cards over restarts."""

import pytest

from hami_dra.core.device_health import CardHealth, Effect, Ends, Fault, Pulse, step
from hami_dra.core.health_record import from_json, to_json
from hami_dra.core.ids import DeviceName

NAME = DeviceName("gpu-0000-17-00-0")
BROKEN = Fault(key="xid", value="48", effect=Effect.NO_SCHEDULE, ends=Ends.RESET, message="drain")
TOLD = Fault(key="xid", value="31", effect=Effect.NONE, ends=Ends.QUIET, message="page fault")


def broken(pulse: Pulse | None = Pulse(errors=4)) -> CardHealth:  # noqa: B008 - frozen
    """A card that needs a reset, and a program of which has crashed."""
    return step(CardHealth(), pulse=pulse, faults=[BROKEN, TOLD], now_s=7.0)


def test_what_needs_a_reset_is_remembered() -> None:
    """And nothing else: a fault that ends otherwise is seen again by whoever looks again."""
    card = from_json(to_json({NAME: broken()}, boot="b"), boot="b")[NAME]
    assert card.faults(now_s=0.0) == (BROKEN,)
    assert card.pulse == Pulse(errors=4)
    unasked = from_json(to_json({NAME: broken(None)}, boot="b"), boot="b")[NAME]
    assert unasked.pulse == Pulse()


def test_a_reset_that_nobody_saw_is_noticed_by_the_count_of_errors() -> None:
    """The card was reset while no process of this plugin ran."""
    card = from_json(to_json({NAME: broken()}, boot="b"), boot="b")[NAME]
    assert step(card, pulse=Pulse(errors=4), now_s=0.0).faults(now_s=0.0) == (BROKEN,)
    assert step(card, pulse=Pulse(errors=0), now_s=0.0).faults(now_s=0.0) == ()


def test_a_healthy_node_has_nothing_to_remember() -> None:
    """The file of a node without faults is always the same."""
    card = step(CardHealth(), pulse=Pulse(errors=4), faults=[TOLD], now_s=7.0)
    assert to_json({NAME: card}, boot="b") == to_json({}, boot="b")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"boot":"b"}',
        '{"boot":"b","cards":[]}',
        '{"boot":"b","cards":{"g":{"errors":0}}}',
        '{"boot":"b","cards":{"g":{"errors":0,"faults":[{"key":"k","value":"v","effect":"New","message":"m"}]}}}',
        to_json({NAME: broken()}, boot="another"),
    ],
)
def test_what_cannot_be_read_or_is_of_another_boot_counts_for_nothing(text: str) -> None:
    """A boot resets every card, and a damaged file must not keep the plugin from starting."""
    assert from_json(text, boot="b") == {}
