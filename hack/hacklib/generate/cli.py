"""The command line of hack/generate."""

import argparse
import sys
from collections.abc import Sequence

from hacklib.generate.registry import GENERATORS, stale, write
from hacklib.paths import REPOSITORY
from hacklib.ui import HackError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hack/generate` with `argv`, by default the process's own; returns the exit status.

    Raises:
        HackError: with --check, when a generated file is not what its source says.
    """
    parser = argparse.ArgumentParser(
        prog="hack/generate", description="Rewrites the generated files that are committed."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of: {', '.join(GENERATORS)}")
    parser.add_argument("--check", action="store_true", help="change nothing, fail when something would change")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.names) - set(GENERATORS)):
        parser.error(f"unknown generator: {', '.join(unknown)}")
    names = arguments.names or list(GENERATORS)
    if arguments.check:
        if changed := stale(REPOSITORY, names):
            listing = "\n  ".join(map(str, changed))
            raise HackError(f"generated files differ from their sources, run hack/generate:\n  {listing}")
    else:
        for path in write(REPOSITORY, names):
            sys.stdout.write(f"{path}\n")
    return 0
