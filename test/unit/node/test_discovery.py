"""Late drivers, vanishing cards and repeated failures."""

import logging

import pytest

from hami_dra._lib.threads import Group
from hami_dra.core.errors import DriverError
from hami_dra.core.inventory import Inventory
from hami_dra.node.discovery import Discovery
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import gpu, inventory


class Hardware:
    """Answers with what a test puts there."""

    def __init__(self) -> None:
        self.answer: Inventory | DriverError = DriverError("no libnvidia-ml.so.1")
        self.looks = 0

    def __call__(self) -> Inventory:
        """Look."""
        self.looks += 1
        if isinstance(self.answer, DriverError):
            raise DriverError(str(self.answer))  # a new one: a raised error keeps every traceback that it ever had
        return self.answer


def test_a_late_driver_is_found() -> None:
    """Looks go on after failures, and the first that works tells the listeners."""
    hardware, heard = Hardware(), list[int]()
    clock = FakeClock(jumps=True)
    with Group("discovery", clock=clock) as group:
        discovery = Discovery(discover=hardware, group=group, listeners=[lambda: heard.append(1)])
        with pytest.raises(DriverError, match="not known yet"):
            discovery.current()
        group.spawn("discovery", discovery.run)
        eventually(lambda: hardware.looks > 3)
        assert not heard
        hardware.answer = inventory()
        eventually(lambda: heard, within_s=60)
        assert discovery.current() == inventory()


def test_a_failure_does_not_take_back_what_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """A driver that stumbles does not make the cards vanish, and the same failure is said once."""
    hardware = Hardware()
    hardware.answer = inventory()
    with Group("discovery") as group:
        discovery = Discovery(discover=hardware, group=group)
        assert discovery.look()
        hardware.answer = DriverError("stumbled")
        caplog.clear()
        assert not discovery.look()
        assert not discovery.look()
        assert discovery.latest == inventory()
        assert [record.getMessage() for record in caplog.records] == ["discovery failed, it is tried again: stumbled"]


def test_a_card_that_vanished_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """A card that a successful look does not see is gone, known to have been here, and named in a warning."""
    hardware = Hardware()
    hardware.answer = inventory(2)
    with Group("discovery") as group:
        discovery = Discovery(discover=hardware, group=group)
        discovery.look()
        hardware.answer = inventory(1)
        caplog.clear()
        discovery.look()
        assert discovery.current() == inventory(1)
        assert discovery.was_here(gpu(1).name)
        assert not discovery.was_here(gpu(2).name)
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert record.__dict__["devices"] == [gpu(1).name]
