"""The command line of `hack/versions`: runs the e2e suite on each configuration, and keeps what came of it."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hacklib import binaries
from hacklib.generate.registry import write
from hacklib.paths import REPOSITORY
from hacklib.ui import HackError, Ui
from hacklib.versions.configurations import MATRIX, Configuration, configuration
from hacklib.versions.record import RECORDS, Record, load, save

__all__ = ["main", "run"]

_SUITE = Path("test/e2e")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit status says whether all tests passed that apply."""
    parser = argparse.ArgumentParser(
        prog="hack/versions",
        description=f"Runs the e2e suite on every Kubernetes, writes {RECORDS} and docs/versions.md.",
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="only these, such as test_mig.py; by default all")
    names = ", ".join(MATRIX)
    parser.add_argument(
        "--on", action="append", metavar="NAME", help=f"only this configuration, of {names}; repeatable"
    )
    arguments = parser.parse_args(argv)
    chosen = [configuration(name) for name in arguments.on or MATRIX]
    modules = frozenset(arguments.modules or (path.name for path in (REPOSITORY / _SUITE).glob("test_*.py")))
    ui = Ui()
    failed = []
    for found in chosen:
        binaries.provide(found.kubernetes, ui=ui)
        record, passed = run(found, modules=modules)
        records = load(REPOSITORY)
        records[found.name] = records.get(found.name, Record()).joined(record, modules=modules)
        save(REPOSITORY, records)
        write(REPOSITORY, ["versions"])
        failed += [] if passed else [found.name]
    if failed:
        raise HackError(f"tests failed on {', '.join(failed)} (see above)")
    return 0


def run(found: Configuration, *, modules: frozenset[str]) -> tuple[Record, bool]:
    """The record of those modules on one configuration, and whether everything passed.

    Raises HackError if the run left no record.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        environment = {"HAMI_DRA_E2E_CONFIGURATION": found.name, "HAMI_DRA_E2E_RECORD": str(path)}
        words = (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            *(str(_SUITE / name) for name in sorted(modules)),
        )
        status = subprocess.run(words, cwd=REPOSITORY, env=os.environ | environment, check=False).returncode
        if not path.exists():
            raise HackError(
                f"the tests on {found.name} ended with status {status} before they told anything (see above)"
            )
        record = Record.from_json(json.loads(path.read_text(encoding="utf-8")))
    return replace(record, release=found.release), status == 0
