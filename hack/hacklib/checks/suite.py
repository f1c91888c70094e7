"""`make check` (the fast half) and `make test` (everything that this machine can run), each with its line of counts."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hacklib.checks import leftovers
from hacklib.checks.static import static_steps
from hacklib.checks.steps import Counts, Step, pytest_step, run_lanes
from hacklib.paths import REPOSITORY, cache_dir
from hacklib.ui import Ui

__all__ = ["check", "everything"]

_KUBERNETES = ("1.36", "1.34")
_COVERED = ("hami_dra/core", "hami_dra/api")


def check(ui: Ui) -> int:
    """Lint, types, layers, unit and property tests; the exit status."""
    logs = _logs("check")
    return _close(run_lanes([static_steps(), _fast_tests(logs)], logs=logs, ui=ui), ui)


def everything(ui: Ui) -> int:
    """What CI runs; the exit status."""
    logs = _logs("test")
    before = leftovers.snapshot()
    builds = [_build("binaries", "build", "--kubernetes", version) for version in _KUBERNETES]
    native = [_build("native", "build", "--preset", preset) for preset in ("release", "asan")]
    counts = run_lanes([[*static_steps(), *_fast_tests(logs)], [*native, *builds]], logs=logs, ui=ui)
    counts += run_lanes([[pytest_step("native", "test/native", logs=logs)]], logs=logs, ui=ui)
    counts += run_lanes([[_build("image", "build", "all")]], logs=logs, ui=ui)
    for name, arguments in (
        ("chart", ("test/chart",)),
        ("cluster", ("-m", "cluster", "test/cluster")),
        ("contract", ("-m", "cluster", "test/contract")),
        ("e2e", ("test/e2e",)),
        ("faults", ("-m", "cluster", "test/faults")),
    ):
        if (REPOSITORY / arguments[-1]).is_dir():
            counts += run_lanes([[pytest_step(name, "-p", "no:randomly", *arguments, logs=logs)]], logs=logs, ui=ui)
    left = leftovers.difference(before, leftovers.snapshot())
    if left:
        ui.note("FAILED leftovers: the tests left behind:\n" + "\n".join(left))
    counts += Counts(passed=int(not left), failed=int(bool(left)))
    return _close(counts, ui)


def _fast_tests(logs: Path) -> list[Step]:
    data = logs / "coverage"
    coverage = (sys.executable, "-m", "coverage")
    environment = {"COVERAGE_FILE": str(data)}
    measured = ("-n", "2", "--cov=hami_dra", "--cov-report=")
    selected = ("-m", "not cluster and not native", *_fast_paths())
    report = (*coverage, "report", "--skip-covered")
    return [
        pytest_step("unit", *measured, *selected, logs=logs, environment=environment),
        Step(
            name="coverage of core and api",
            command=(*report, "--fail-under=100", f"--include={','.join(f'{path}/*' for path in _COVERED)}"),
            environment=environment,
        ),
        Step(name="coverage overall", command=(*report, "--fail-under=85"), environment=environment),
    ]


def _fast_paths() -> Sequence[str]:
    names = ("test/unit", "test/property", "test/contract", "test/cluster", "test/faults", "test/hack")
    return [name for name in names if (REPOSITORY / name).is_dir()]


def _build(tool: str, *arguments: str) -> Step:
    return Step(
        name=" ".join((tool, *arguments)).replace("--", ""), command=(sys.executable, f"hack/{tool}", *arguments)
    )


def _logs(name: str) -> Path:
    folder = cache_dir() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))


def _close(counts: Counts, ui: Ui) -> int:
    sys.stderr.flush()
    ui.note("")
    print(counts, flush=True)
    return int(bool(counts.failed) or not counts.passed)
