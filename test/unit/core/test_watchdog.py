"""When a share counts as above its limits, and when no longer."""

from dataclasses import replace

import pytest

from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.ids import GpuUuid, ShareKey
from hami_dra.core.limits import Limits
from hami_dra.core.settings import WatchdogSettings
from hami_dra.core.watchdog import Reading, ShareWatch, observe

MIB = 1 << 20
LIMITS = Limits(
    share=ShareKey("gpu-0-1"),
    device_uuid=GpuUuid("GPU-0"),
    memory_limit_bytes=1000 * MIB,
    device_memory_bytes=8000 * MIB,
    cores_percent=30,
    qos=Qos.FIXED_SHARE,
    priority=Priority.NORMAL,
)
SETTINGS = WatchdogSettings(grace_s=10, memory_tolerance_bytes=64 * MIB, cores_tolerance_percent=20)


class Share:
    """A share that is looked at every two seconds."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.now_s = 0.0
        self.state = ShareWatch()

    def hold(self, mib: int, *, seconds: float, busy: float | None = 0.0) -> "Share":
        """Hold that much, and compute that much, for that long."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self.now_s += 2.0
            reading = Reading(memory_bytes=mib * MIB, busy=busy)
            self.state = observe(
                self.state, reading, limits=self.limits, settings=SETTINGS, now_s=self.now_s, elapsed_s=2.0
            )
        return self


def test_an_excess_that_lasts_for_the_grace_is_an_alarm() -> None:
    """And it is one until the share has kept to its limits for as long again."""
    share = Share().hold(1100, seconds=10)
    assert not share.state.above
    assert share.hold(1100, seconds=2).state.memory.raised
    assert share.hold(1000, seconds=10).state.above
    assert not share.hold(1000, seconds=2).state.above


def test_the_overhead_of_a_context_and_a_moment_above_are_no_alarm() -> None:
    """Within the tolerance for ever, and beyond it for less than the grace, however often."""
    assert not Share().hold(1064, seconds=1000).state.above
    share = Share()
    for _ in range(20):
        share.hold(5000, seconds=8).hold(900, seconds=2)
    assert not share.state.above


def test_an_alarm_does_not_flap() -> None:
    """A share that swings around its limit stays an alarm."""
    share = Share().hold(1100, seconds=20)
    for _ in range(20):
        share.hold(1000, seconds=8).hold(1050, seconds=2)
    assert share.state.above


@pytest.mark.parametrize(("busy", "above"), [(0.45, False), (0.55, True)])
def test_compute_is_averaged_over_the_grace(busy: float, above: bool) -> None:
    """A fixed share may be above its cores by the tolerance."""
    assert Share().hold(0, seconds=60, busy=busy).state.cores.raised is above


def test_a_burst_is_no_alarm_and_silence_changes_nothing() -> None:
    """The driver has no news: what was known stays."""
    share = Share().hold(0, seconds=4, busy=1.0).hold(0, seconds=100, busy=None)
    assert not share.state.above
    assert share.hold(0, seconds=30, busy=1.0).state.above
    assert share.hold(0, seconds=100, busy=None).state.above
    assert not share.hold(0, seconds=60, busy=0.1).state.above


@pytest.mark.parametrize(
    "limits",
    [replace(LIMITS, qos=Qos.BURST_SHARE), replace(LIMITS, qos=Qos.BEST_EFFORT), replace(LIMITS, cores_percent=0)],
)
def test_only_fixed_shares_are_held_to_their_cores(limits: Limits) -> None:
    """The others may use whatever is idle."""
    assert not Share(limits).hold(0, seconds=100, busy=1.0).state.above


def test_a_share_without_a_memory_limit_is_never_above() -> None:
    """0 means none, as in the limits file."""
    assert not Share(replace(LIMITS, memory_limit_bytes=0)).hold(8000, seconds=100).state.above


@pytest.mark.parametrize(("mib", "raised"), [(1032, False), (1033, True)])
def test_an_alarm_of_memory_ends_within_half_the_tolerance(mib: int, raised: bool) -> None:
    """Between that and the whole tolerance it neither comes nor goes."""
    assert Share().hold(1065, seconds=20).hold(mib, seconds=100).state.memory.raised is raised
    assert not Share().hold(mib, seconds=100).state.memory.raised


@pytest.mark.parametrize(("busy", "raised"), [(0.39, False), (0.41, True), (0.49, True)])
def test_an_alarm_of_compute_ends_within_half_the_tolerance(busy: float, raised: bool) -> None:
    """As that of memory does."""
    assert Share().hold(0, seconds=60, busy=0.6).hold(0, seconds=200, busy=busy).state.cores.raised is raised


def test_an_alarm_of_compute_comes_with_the_average_and_goes_a_grace_after_it() -> None:
    """The average has waited already; what ends it has not."""
    share = Share()
    share.state = replace(share.state, busy=0.45)
    assert share.hold(0, seconds=2, busy=0.9).state.cores.raised
    share.state = replace(share.state, busy=0.3)
    assert share.hold(0, seconds=10, busy=0.3).state.cores.raised
    assert not share.hold(0, seconds=2, busy=0.3).state.cores.raised


def test_the_newest_reading_is_kept() -> None:
    """What is reported of an offender is what it holds now."""
    assert Share().hold(900, seconds=2).hold(1100, seconds=2).state.memory_bytes == 1100 * MIB
