"""Cards whose MIG mode only a reset changes, as in most virtual machines: a driver's answers, without a driver."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from unit.vendors.test_discover import FakeNvml, card, discovery, root

from hami_dra.core.errors import PartitionRefused
from hami_dra.core.inventory import MigSupport, Partition
from hami_dra.testing.gpus import A100_PROFILES, gpu
from hami_dra.vendors.nvidia import Root
from hami_dra.vendors.nvidia.mig import Mode, Switch
from hami_dra.vendors.nvidia.partitions import MigPartitions

if TYPE_CHECKING:
    from hami_dra.vendors.nvidia.session import Session

__all__ = ["root"]

SMALL = Partition(gpu=gpu().name, profile="1g.10gb", start=0)


class Card:
    """A card that answers a switch of its mode as a test wants."""

    def __init__(self, answer: Switch) -> None:
        self.enabled = self.pending = False
        self.answer = answer

    def mode(self) -> Mode:
        """As it is."""
        return Mode(enabled=self.enabled, pending=self.pending)

    def set_mode(self, *, enabled: bool) -> Switch:
        """Kept for the next reset."""
        self.pending = enabled
        return self.answer

    def users(self) -> tuple[int, ...]:
        """Nobody."""
        return ()

    def profiles(self) -> tuple[object, ...]:
        """Of an A100."""
        return A100_PROFILES

    def instances(self, _profiles: object) -> list[object]:
        """None."""
        return []

    def mig(self, _bus_id: str) -> "Card":
        """The session with the driver, which has this card only."""
        return self

    @contextlib.contextmanager
    def opened(self) -> Iterator["Card"]:
        """As above."""
        yield self


def partitions(device: Card) -> MigPartitions:
    """What cuts that card."""
    return MigPartitions(session=cast("Session", device), devices=Root(path=Path("/nowhere")), proc=Path("/proc"))


def test_a_card_that_needs_a_reset_is_remembered_until_its_mode_has_changed(caplog: pytest.LogCaptureFixture) -> None:
    """The old wish is put back, the log says once what to do, and after the reset the card is as any other."""
    device = Card(Switch.NEEDS_RESET)
    cut = partitions(device)
    for _ in range(2):
        with pytest.raises(PartitionRefused, match="it takes a reset: drain the node and run nvidia-smi -mig 1"):
            cut.ensure(SMALL, make=True)
        assert not device.pending
    assert (
        len([record for record in caplog.records if "leaves its mode (MIG off) by a reset only" in record.message]) == 1
    )
    assert cut.fixed == (gpu().name,)
    assert cut.is_fixed(gpu().name, enabled=False)
    device.enabled = device.pending = True
    assert not cut.is_fixed(gpu().name, enabled=True)
    assert not cut.fixed
    with pytest.raises(PartitionRefused, match="nvidia-smi -mig 0"):
        cut.make_whole(gpu().name)
    assert cut.is_fixed(gpu().name, enabled=True)


@pytest.mark.parametrize("answer", [Switch.IN_USE, Switch.DONE], ids=["in use", "said and not done"])
def test_a_client_of_the_driver_may_go_away(answer: Switch) -> None:
    """The next claim tries again."""
    device = Card(answer)
    cut = partitions(device)
    with pytest.raises(PartitionRefused, match="either a client of the driver holds the card"):
        cut.ensure(SMALL, make=True)
    assert not device.pending
    assert not cut.fixed


def test_such_a_card_is_discovered_as_it_is(root: Root) -> None:
    """It cannot be switched, until its mode has changed."""
    support = MigSupport(enabled=False, switchable=True, profiles=A100_PROFILES)
    nvml = FakeNvml([replace(card(), mig=support)])
    look = discovery(root, nvml)
    (found,) = look.discover().gpus
    assert found.mig == support
    look.partitions._fixed[found.name] = False
    (found,) = look.discover().gpus
    assert found.mig == replace(support, switchable=False)
    nvml.cards = [replace(card(), mig_enabled=True, mig=replace(support, enabled=True))]
    (found,) = look.discover().gpus
    assert found.mig == replace(support, enabled=True)
