"""The command line of hack/test."""

from hacklib.checks.suite import everything
from hacklib.ui import Ui

__all__ = ["main"]


def main() -> int:
    """Run all tests; the exit status."""
    return everything(Ui())
