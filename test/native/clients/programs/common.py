"""What the client programs share: sizes around a share of 4 GiB, and how they report.

The programs run in environments of their own, with nothing of this repository but this module.
"""

import json
from typing import Any

__all__ = ["BELOW", "GIB", "PTX", "REST", "SHARE", "report"]

GIB = 1 << 30
SHARE = 4 * GIB
BELOW = 3 * GIB
"""Fits into the share."""
REST = 2 * GIB
"""Does not fit beside it."""
PTX = b".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry nothing(.param .u64 pointer) { ret; }\n"


def report(**seen: Any) -> None:
    """Print what the client saw, as the test reads it."""
    print(json.dumps(seen))
