"""Kubernetes quantities as exact integers.

Only what DRA capacities need: whole numbers of bytes, percent or tenants.  Source: the serialisation format of
`resource.Quantity` (apimachinery).  A fraction is rounded up, as `Quantity.Value()` does.
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

__all__ = ["format_bytes", "parse_quantity"]

_SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
_QUANTITY: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]{1,2}))?"
)


def parse_quantity(text: str) -> int:
    """The quantity as an integer, rounded up.

    Raises:
        ValueError: not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 16Gi, 500M or 30")
    number = Decimal(match["number"])
    scale = Decimal(10) ** int(match["exponent"]) if match["exponent"] else _SUFFIXES[match["suffix"] or ""]
    return int((number * scale).to_integral_value(rounding=ROUND_CEILING))


def format_bytes(value: int) -> str:
    """The shortest exact binary quantity: `16Gi`, `24576Mi`, `1000`."""
    for suffix, size in (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if value and value % size == 0:
            return f"{value // size}{suffix}"
    return str(value)
