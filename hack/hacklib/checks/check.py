"""The command line of hack/check."""

from hacklib.checks.suite import check
from hacklib.ui import Ui

__all__ = ["main"]


def main() -> int:
    """Run the fast half; the exit status."""
    return check(Ui())
