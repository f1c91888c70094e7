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

_KUBERNETES = ("1.36", "1.34", "1.35")
_OLDER = ("1.34", "1.34+gates", "1.35+gates")
"""Configurations on which the tests run that are marked `older`; `make versions` runs all tests on all of them."""
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
    counts += run_lanes([[pytest_step("native", "test/native", logs=logs)]], logs=logs, ui=ui)  # measures time: alone
    counts += run_lanes([[_build("image", "build", "all")]], logs=logs, ui=ui)
    counts += run_lanes(
        [
            [
                _in_order("chart", "test/chart", logs=logs),
                _in_order("cluster", "-m", "cluster", "test/cluster", logs=logs),
            ],
            [_in_order("contract", "-m", "cluster", "test/contract", logs=logs)],
        ],
        logs=logs,
        ui=ui,
    )
    older = [
        _in_order(f"e2e {name}", "-m", "older", "test/e2e", logs=logs, environment={"HAMI_DRA_E2E_CONFIGURATION": name})
        for name in _OLDER
    ]
    counts += run_lanes(
        [
            [_in_order("e2e", "-m", "not apart", "test/e2e", logs=logs)],
            [
                _in_order("e2e apart", "-m", "apart", "test/e2e", logs=logs),
                *older,
                _in_order("faults", "-m", "cluster", "test/faults", logs=logs),
            ],
        ],
        logs=logs,
        ui=ui,
    )
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


def _in_order(name: str, *arguments: str, logs: Path, environment: dict[str, str] | None = None) -> Step:
    """Tests that share what takes long to make: module by module."""
    return pytest_step(name, "-p", "no:randomly", *arguments, logs=logs, environment=environment)


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
