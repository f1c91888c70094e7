"""Lets a script of `hack/` run in the Python environment of the repository, whichever Python it was started by."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

from hacklib.paths import REPOSITORY
from hacklib.ui import HackError, run_main

__all__ = ["run_script"]


def run_script(module: str) -> None:
    """Call `main` of a module in the environment that `hack/bootstrap` makes, then exit with its status.

    Started by any other Python, the script is started again by that environment's.
    """
    sys.exit(run_main(lambda: _run(module)))


def _run(module: str) -> int:
    if sys.prefix == sys.base_prefix:
        bootstrap = subprocess.run([REPOSITORY / "hack" / "bootstrap"], stdout=subprocess.PIPE, text=True, check=False)
        if bootstrap.returncode:
            raise HackError("the Python environment could not be made (see above)")
        python = Path(bootstrap.stdout.strip()) / "python"
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - no shell is wanted
    return int(importlib.import_module(module).main())
