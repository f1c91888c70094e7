"""Times as Kubernetes writes them."""

import datetime as dt

from hami_dra._lib.clock import SYSTEM_CLOCK, micro_time, rfc3339


def test_times_are_written_in_utc() -> None:
    """A moment in any zone reads as the API server writes it."""
    moment = dt.datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert rfc3339(moment) == "2026-03-01T10:00:00Z"
    assert micro_time(moment) == "2026-03-01T10:00:00.000005Z"


def test_the_clock_of_the_machine_knows_its_zone() -> None:
    """Wall clock times are never naive."""
    assert SYSTEM_CLOCK.now().tzinfo is dt.UTC
