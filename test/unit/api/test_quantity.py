"""Quantities."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.api.quantity import format_bytes, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16Gi", 16 << 30),
        ("1.5Gi", 3 << 29),
        ("100", 100),
        ("500m", 1),
        ("1500m", 2),
        ("1e3", 1000),
        ("1E3", 1000),
        ("2E", 2 * 10**18),
        (".5Ki", 512),
        ("-1", -1),
        ("80k", 80_000),
    ],
)
def test_quantities_are_exact_integers_rounded_up(text: str, value: int) -> None:
    """As `Quantity.Value()` of apimachinery."""
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1gi", "0x10", "1.2.3", "1e", "NaN", "\u0661"])
def test_other_texts_are_refused(text: str) -> None:
    """The message says what a quantity looks like."""
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 2**63))
def test_formatting_is_exact(value: int) -> None:
    """What is written is what was meant."""
    assert parse_quantity(format_bytes(value)) == value
