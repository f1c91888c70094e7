"""The benchmarks' reading of Prometheus histograms."""

import math

from bench.histogram import Histogram

TEXT = """\
# TYPE calls_seconds histogram
calls_seconds_bucket{driver="a",method="/x/Prepare",le="0.01"} 5
calls_seconds_bucket{driver="a",method="/x/Prepare",le="0.1"} 9
calls_seconds_bucket{driver="a",method="/x/Prepare",le="+Inf"} 10
calls_seconds_sum{driver="a",method="/x/Prepare"} 0.5
calls_seconds_count{driver="a",method="/x/Prepare"} 10
calls_seconds_count{driver="b",method="/x/Prepare"} 99
calls_seconds_count{driver="a",method="/x/Unprepare"} 99
"""


def _parsed(text: str = TEXT) -> Histogram:
    return Histogram.parse(text, name="calls_seconds", driver="a", method="/Prepare")


def test_only_the_series_asked_for_count() -> None:
    """Labels must match, at least in their ends; other metrics, drivers and methods are not counted."""
    found = _parsed()
    assert (found.count, found.sum) == (10, 0.5)
    assert found.buckets == {0.01: 5, 0.1: 9, math.inf: 10}
    assert found.mean == 0.05


def test_a_difference_is_what_was_observed_since() -> None:
    """Two scrapes subtract; without an observation there is no mean."""
    assert (_parsed() - _parsed()).count == 0
    assert math.isnan((_parsed() - _parsed()).mean)


def test_quantiles_are_interpolated_within_their_bucket() -> None:
    """As Prometheus does it: linear within a bucket, and the last finite bound for what lies above it."""
    found = _parsed()
    assert found.quantile(0.5) == 0.01
    assert math.isclose(found.quantile(0.7), 0.01 + 0.09 * 0.5)
    assert found.quantile(0.99) == 0.1
