"""The command line of hack/mutation."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from hacklib.mutation.scores import scores, table
from hacklib.mutation.workplace import refresh
from hacklib.paths import cache_dir

__all__ = ["main"]

_NICE = 19


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hack/mutation` with `argv`, by default the process's own; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="hack/mutation", description="Changes hami_dra/core in thousands of ways and says which no test notices."
    )
    parser.add_argument("modules", nargs="*", help="of hami_dra.core, such as plan; all of them by default")
    parser.add_argument("--children", type=int, default=1, help="processes at once (1)")
    parser.add_argument("--report", action="store_true", help="run nothing, print what is known")
    arguments = parser.parse_args(argv)
    if not arguments.report:
        copy = refresh()
        names = [f"hami_dra.core.{module}.*" for module in arguments.modules]
        os.nice(_NICE)
        command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(arguments.children), *names]
        if status := subprocess.run(command, cwd=copy, check=False).returncode:
            return status
    print(table(scores(cache_dir() / "mutation" / "mutants")))
    return 0
