"""Steps: named commands that run in lanes, quiet while they pass, loud when they fail.

A step's output goes to a log; a failed step's log is printed whole.  pytest steps also leave a JUnit file, from which the
counts of the closing line come: a step that is not pytest counts as one test.
"""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hacklib.paths import REPOSITORY
from hacklib.ui import Ui

__all__ = ["Counts", "Step", "pytest_step", "run_lanes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Outcomes, in tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            passed=self.passed + other.passed,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command; `junit` is set where pytest reports its own counts."""

    name: str
    command: tuple[str, ...]
    junit: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


def pytest_step(name: str, *arguments: str, logs: Path, environment: dict[str, str] | None = None) -> Step:
    """A pytest run that is counted test by test."""
    junit = logs / f"{name.replace(' ', '-')}.xml"
    command = (sys.executable, "-m", "pytest", "-q", f"--junitxml={junit}", *arguments)
    return Step(name=name, command=command, junit=junit, environment=environment or {})


def run_lanes(lanes: Sequence[Sequence[Step]], *, logs: Path, ui: Ui) -> Counts:
    """Run each lane's steps in order, the lanes side by side; a failed step does not stop the others."""
    logs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=len(lanes)) as pool:
        futures = [pool.submit(_run_lane, lane, logs, ui) for lane in lanes]
        return sum((future.result() for future in futures), Counts())


def _run_lane(lane: Sequence[Step], logs: Path, ui: Ui) -> Counts:
    return sum((_run(step, logs, ui) for step in lane), Counts())


def _run(step: Step, logs: Path, ui: Ui) -> Counts:
    log = logs / f"{step.name.replace(' ', '-')}.log"
    if step.junit:
        step.junit.unlink(missing_ok=True)
    started = time.monotonic()
    with log.open("wb") as out:
        status = subprocess.run(
            step.command,
            cwd=REPOSITORY,
            env=os.environ | step.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    counts = _read_junit(step.junit) if step.junit else Counts(passed=int(status == 0), failed=int(status != 0))
    if status and not counts.failed:
        counts += Counts(failed=1)  # pytest itself broke: no test ran, or coverage is too low
    took = f"{time.monotonic() - started:.1f} s"
    if status:
        ui.note(f"FAILED {step.name} ({took}), its output:\n{log.read_text(errors='replace')}")
    else:
        ui.note(f"ok     {step.name} ({took}{', ' + str(counts) if step.junit else ''})")
    return counts


def _read_junit(path: Path) -> Counts:
    if not path.exists():
        return Counts(failed=1)
    total = Counts()
    for suite in ET.parse(path).getroot().iter("testsuite"):  # noqa: S314 - pytest wrote it a moment ago
        number = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
        failed = number["failures"] + number["errors"]
        total += Counts(passed=number["tests"] - failed - number["skipped"], failed=failed, skipped=number["skipped"])
    return total
