"""The limiter's parts under the sanitizers, in one process with a clock and a device of its own."""

import subprocess
from pathlib import Path

import pytest
from native.guard.conftest import INCLUDES, SOURCES

CORE = ("compute/bucket.c", "compute/busy.c", "compute/estimate.c", "compute/meter.c", "os/lock.c", "os/prim.c")

pytestmark = pytest.mark.native


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def unit(request: pytest.FixtureRequest, host_cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exerciser, with one family of sanitizers."""
    program = tmp_path_factory.mktemp("unit") / "unit_compute"
    subprocess.run(
        [
            host_cc,
            *("-std=gnu17", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"),
            *(f"-fsanitize={request.param}", "-fno-sanitize-recover=all"),
            *INCLUDES,
            *("-o", str(program)),
            *(Path(__file__).parent / "unit_compute.c", *(SOURCES / name for name in CORE)),
            "-lpthread",
        ],
        check=True,
    )
    return program


def _run(unit: Path, part: str, seed: str) -> None:
    done = subprocess.run([unit, part, seed], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_bucket_pours_its_rate_whatever_clock_and_file_say(unit: Path, seed: str) -> None:
    """Over time exactly the rate comes out; garbage in the file is worth one full bucket and a bounded wait."""
    _run(unit, "bucket", seed)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_busy_time_is_the_union_of_intervals(unit: Path, seed: str) -> None:
    """What is new in an interval is what no other interval covered, in whatever order they come."""
    _run(unit, "busy", seed)


def test_signatures_are_learned_and_forgotten(unit: Path) -> None:
    """A mean follows its kernel, a median ignores the odd one, and more signatures than there is room for do no harm."""
    _run(unit, "estimate", "1")


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_what_is_charged_is_what_the_device_worked(unit: Path, seed: str) -> None:
    """Deep queues, streams side by side, pauses, durations that no signature tells, interruptions, lost events."""
    _run(unit, "meter", seed)


def test_threads_share_bucket_map_and_estimates(unit: Path) -> None:
    """Eight threads lose no charge and mark no interval twice."""
    _run(unit, "threads", "1")
