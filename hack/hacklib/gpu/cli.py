"""The command line of hack/gpu."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hacklib.gpu.bundle import make_bundle
from hacklib.ui import HackError, Ui

__all__ = ["main"]

_DRIVER = Path("/proc/driver/nvidia/version")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `hack/gpu` with `argv`, by default the process's own; returns the exit status."""
    parser = argparse.ArgumentParser(prog="hack/gpu", description="Tries the guard on a real GPU.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    bundle = commands.add_parser("bundle", help="make a folder to copy to a machine with a GPU; there: <folder>/run")
    bundle.add_argument("folder", type=Path)
    test = commands.add_parser("test", help="run the suite on this machine's GPU")
    test.add_argument("--out", type=Path, help="write the figures here, as JSON")
    arguments = parser.parse_args(argv)
    if arguments.command == "bundle":
        sys.stdout.write(f"{make_bundle(arguments.folder, ui=Ui())}\n")
        return 0
    if not _DRIVER.exists():
        raise HackError(
            f"this machine has no NVIDIA driver ({_DRIVER} does not exist); "
            "`hack/gpu bundle DIRECTORY` makes a folder to copy to one that has: run DIRECTORY/run there"
        )
    with tempfile.TemporaryDirectory() as folder:
        run = make_bundle(Path(folder), ui=Ui())
        out = ["--out", str(arguments.out.resolve())] if arguments.out else []
        return subprocess.run([run, *out], check=False).returncode
