"""The benchmarks' arithmetic."""

from bench.samples import Samples, over, quantile


def test_a_quantile_is_a_value_that_was_seen() -> None:
    """Of a hundred ordered values the median is the 51st and the highest quantile the last."""
    ordered = [float(value) for value in range(100)]
    assert (quantile(ordered, 0.5), quantile(ordered, 0.99), quantile(ordered, 1.0)) == (50, 99, 99)


def test_a_drift_of_the_machine_is_no_difference() -> None:
    """Two contenders that become slower together differ by what they differ in each round."""
    one, other = Samples(), Samples()
    for drift in (0.0, 1000.0, 5.0):
        one.add(repeated=[drift + 17], single=[drift + 20])
        other.add(repeated=[drift + 10], single=[drift + 10])
    assert over(one, other) == 7
    assert (one.p50, one.tail(0.99)) == (22, 1020)
