"""Cards follow the modes of their shares, whoever comes and goes, and whatever dies in between."""

from typing import Any

import pytest
from node_rig import Crash, Rig

from hami_dra.api.k8s import ResourceClaim
from hami_dra.api.opaque import Interval
from hami_dra.core.errors import DriverError, IsolationConflict
from hami_dra.testing.gpus import allocated_claim, gpu, share_result

UUID = gpu().uuid


def sliced(name: str, interval: str = "Long", *, share: int = 1) -> ResourceClaim:
    """A claim with a time-sliced share of the card."""
    return shared(name, share=share, isolation="TimeSlicing", timeSlicing={"interval": interval})


def shared(name: str, *, share: int = 1, cores: int = 0, **fields: Any) -> ResourceClaim:
    """A claim with a share of the card and that configuration."""
    parameters = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig"} | fields
    entry = {"source": "FromClaim", "opaque": {"driver": "gpu.hami.io", "parameters": parameters}}
    share_id = f"6b0f2a6e-0000-4000-8000-00000000000{share}"
    return allocated_claim(name, share_result(share_id=share_id, memory_gib=4, cores=cores), config=[entry])


def test_the_card_takes_turns_as_long_as_somebody_wants_it_to(rig: Rig) -> None:
    """The first share sets the interval, the last one that leaves takes it back; those in between change nothing."""
    first, second = rig.claims.add(sliced("first")), rig.claims.add(sliced("second", share=2))
    rig.prepare(first)
    rig.prepare(second)
    assert rig.time_slices.intervals == {UUID: Interval.LONG}
    rig.unprepare(first)
    assert rig.time_slices.intervals == {UUID: Interval.LONG}
    rig.unprepare(second)
    assert rig.time_slices.intervals == {UUID: Interval.DEFAULT}


def test_other_shares_leave_the_card_as_it_is(rig: Rig) -> None:
    """A guarded share tells the driver nothing, and neither does the end of an unknown claim."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.unprepare(train)
    rig.unprepare(train)
    assert rig.time_slices.intervals == {}


def test_another_interval_is_refused_while_the_card_is_in_use(rig: Rig) -> None:
    """Nothing of the refused claim is left, and the card's turns are as they were."""
    rig.prepare(rig.claims.add(sliced("first")))
    with pytest.raises(IsolationConflict):
        rig.prepare(rig.claims.add(sliced("second", "Short", share=2)))
    assert rig.time_slices.intervals == {UUID: Interval.LONG}
    assert rig.facts().ledger == {"first-uid": "Completed"}


def test_a_driver_that_does_not_answer_keeps_nobody_from_leaving(rig: Rig) -> None:
    """Prepare fails and leaves nothing; unprepare succeeds all the same."""
    train = rig.claims.add(sliced("train"))
    rig.time_slices.lost.add(UUID)
    with pytest.raises(DriverError):
        rig.prepare(train)
    assert rig.facts().ledger == {}
    rig.time_slices.lost.clear()
    rig.prepare(train)
    rig.time_slices.lost.add(UUID)
    rig.unprepare(train)
    assert rig.facts().ledger == {}


@pytest.mark.parametrize("moment", ["time_slices.set", "time_slices.set done"])
def test_a_crash_while_the_mode_is_set_is_undone_by_the_next_start(rig: Rig, moment: str) -> None:
    """Nobody uses the card: its turns are the driver's own again."""
    train = rig.claims.add(sliced("train"))
    rig.crash_at(moment)
    with pytest.raises(Crash):
        rig.prepare(train)
    rig.start()
    assert rig.time_slices.intervals == {UUID: Interval.DEFAULT}
    assert rig.facts().ledger == {}


def test_a_new_process_tells_the_driver_again_and_once(rig: Rig) -> None:
    """What a driver forgot that was loaded anew comes back with the next start of the plugin; a failure is tried again."""
    rig.prepare(rig.claims.add(sliced("train")))
    rig.time_slices.intervals.clear()
    rig.time_slices.lost.add(UUID)
    rig.start()
    assert rig.time_slices.intervals == {}
    rig.time_slices.lost.clear()
    rig.recovery.restore()
    assert rig.time_slices.intervals == {UUID: Interval.LONG}
    rig.time_slices.intervals.clear()
    rig.recovery.restore()
    assert rig.time_slices.intervals == {}


def test_a_boot_takes_modes_back(rig: Rig) -> None:
    """What another boot had prepared does not count, and nobody tells the driver about it."""
    rig.prepare(rig.claims.add(sliced("train")))
    rig.time_slices.intervals.clear()
    rig.reboot()
    assert (rig.time_slices.intervals, rig.facts().ledger) == ({}, {})
