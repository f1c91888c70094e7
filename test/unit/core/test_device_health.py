"""What looks at the hardware say of each device."""

from hami_dra.core.device_health import Verdict, judge
from hami_dra.core.inventory import Inventory
from hami_dra.testing.gpus import gpu, inventory


def test_a_card_that_is_listed_is_healthy() -> None:
    """Nothing more is to be said of it."""
    (found,) = judge(inventory(), ever=())
    assert (found.verdict, found.message) == (Verdict.HEALTHY, "")


def test_a_card_that_was_there_is_unhealthy_and_not_forgotten() -> None:
    """Whoever has it allocated hears that it is lost, however many looks ago that was."""
    card = gpu()
    (found,) = judge(Inventory(), ever={card.name})
    assert (found.name, found.verdict) == (card.name, Verdict.UNHEALTHY)
    assert "does not list" in found.message


def test_nobody_knows_while_the_driver_does_not_answer() -> None:
    """A failed look takes no card away, but nothing that it said before can be vouched for."""
    (found,) = judge(inventory(), ever=(), failure="timeout")
    assert (found.verdict, found.message) == (Verdict.UNKNOWN, "the driver does not answer: timeout")


def test_before_the_first_look_there_is_nothing_to_say() -> None:
    """No inventory, no devices."""
    assert judge(None, ever=(), failure="no driver") == ()
