"""Cards follow the modes of their shares, whoever comes and goes, and whatever dies in between."""

from typing import Any

import pytest
from node_rig import Crash, Rig

from hami_dra.api.k8s import ResourceClaim
from hami_dra.api.opaque import Interval
from hami_dra.core.errors import DriverError, IsolationConflict, MpsNotReady
from hami_dra.core.mps import Answer, Wanted
from hami_dra.testing.gpus import allocated_claim, gpu, share_result

UUID, NAME = gpu().uuid, gpu().name


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


def test_a_boot_takes_modes_back(rig: Rig) -> None:
    """What another boot had prepared does not count, and nobody tells the driver about it."""
    rig.prepare(rig.claims.add(sliced("train")))
    rig.time_slices.intervals.clear()
    rig.reboot()
    assert (rig.time_slices.intervals, rig.facts().ledger) == ({}, {})


def mps(name: str, cores: int, *, share: int = 1) -> ResourceClaim:
    """A claim with an MPS share of the card."""
    return shared(name, cores=cores, share=share, isolation="MPS")


def wanted(percent: int) -> Wanted:
    """A daemon for the card whose largest client has that part of it."""
    return Wanted(uuid=UUID, percent=percent, memory_bytes=4 << 30)


def test_a_daemon_is_asked_for_as_long_as_somebody_needs_it(rig: Rig) -> None:
    """It lets the largest share have its part, also when that one has come later, or left."""
    first, second = rig.claims.add(mps("first", 30)), rig.claims.add(mps("second", 50, share=2))
    rig.prepare(first)
    assert rig.mps.asked == {NAME: wanted(30)}
    rig.prepare(second)
    assert rig.mps.asked == {NAME: wanted(50)}
    rig.unprepare(second)
    assert rig.mps.asked == {NAME: wanted(30)}
    rig.unprepare(first)
    assert rig.mps.asked == {}


@pytest.mark.parametrize(
    ("keeper", "said"), [(True, "takes no clients: killed"), (False, "set mps.enabled in the chart's values")]
)
def test_a_daemon_that_takes_no_clients_fails_the_prepare(rig: Rig, keeper: bool, said: str) -> None:
    """The message says why, or what is missing; nothing of the claim is left, and no daemon is asked for."""
    rig.mps.keeper = keeper
    rig.mps.down[NAME] = Answer(serves=None, ends=1, message="killed")
    train = rig.claims.add(mps("train", 30))
    with pytest.raises(MpsNotReady, match=said):
        rig.prepare(train)
    assert (rig.facts().ledger, rig.mps.asked) == ({}, {})


@pytest.mark.parametrize("moment", ["mps.want", "mps.want done"])
def test_a_crash_on_the_way_in_leaves_no_daemon(rig: Rig, moment: str) -> None:
    """The next start takes back what was asked for."""
    train = rig.claims.add(mps("train", 30))
    rig.crash_at(moment)
    with pytest.raises(Crash):
        rig.prepare(train)
    rig.start()
    assert (rig.facts().ledger, rig.mps.asked) == ({}, {})


@pytest.mark.parametrize("moment", ["mps.forget", "mps.forget done"])
def test_a_crash_on_the_way_out_is_finished_by_kubelets_next_call(rig: Rig, moment: str) -> None:
    """The row is still there, so the claim is whole again until it is unprepared."""
    train = rig.claims.add(mps("train", 30))
    rig.prepare(train)
    rig.crash_at(moment)
    with pytest.raises(Crash):
        rig.unprepare(train)
    rig.start()
    assert rig.mps.asked == {NAME: wanted(30)}
    rig.unprepare(train)
    assert (rig.facts().ledger, rig.mps.asked) == ({}, {})


def test_a_start_asks_for_what_the_ledger_needs_and_for_nothing_else(rig: Rig) -> None:
    """Files that were lost come back, files of nobody go, and so do those of another boot."""
    rig.prepare(rig.claims.add(mps("train", 30)))
    other = gpu(1).name
    rig.mps.asked = {other: wanted(10)}
    rig.start()
    assert rig.mps.asked == {NAME: wanted(30)}
    rig.reboot()
    assert rig.mps.asked == {}
