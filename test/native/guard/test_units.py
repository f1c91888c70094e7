"""The guard's core under the sanitizers, in one process."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from native.guard.conftest import INCLUDES

from hacklib.paths import REPOSITORY
from hami_dra._gen import abi

SOURCES = REPOSITORY / "native" / "guard"
CORE = (
    *("memory/ledger.c", "os/lock.c", "os/prim.c", "os/token.c"),
    *("shares/credit.c", "shares/limits.c", "shares/usage.c", "shares/usage_count.c"),
)

pytestmark = pytest.mark.native


MEMORY = ("memory/account.c", "os/lock.c", "os/prim.c")
FAMILIES = ("address,undefined", "thread")


def _compile(output: Path, *, compiler: str, sanitizers: str, sources: Sequence[Path]) -> Path:
    subprocess.run(
        [
            compiler,
            *("-std=gnu17", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"),
            *(f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"),
            *INCLUDES,
            *("-o", str(output)),
            *map(str, sources),
            "-lpthread",
        ],
        check=True,
    )
    return output


@pytest.fixture(scope="module", params=FAMILIES)
def unit(request: pytest.FixtureRequest, host_cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exerciser, with one family of sanitizers."""
    sources = [Path(__file__).parent / "unit.c", *(SOURCES / name for name in CORE)]
    output = tmp_path_factory.mktemp("unit") / "unit"
    return _compile(output, compiler=host_cc, sanitizers=request.param, sources=sources)


@pytest.fixture(scope="module", params=FAMILIES)
def unit_credit(request: pytest.FixtureRequest, host_cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exerciser of credits, with one family of sanitizers."""
    sources = [Path(__file__).parent / "unit_credit.c", *(SOURCES / name for name in CORE)]
    output = tmp_path_factory.mktemp("unit") / "unit_credit"
    return _compile(output, compiler=host_cc, sanitizers=request.param, sources=sources)


@pytest.fixture(scope="module", params=FAMILIES)
def unit_memory(request: pytest.FixtureRequest, host_cc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exerciser of accounts, with one family of sanitizers."""
    sources = [Path(__file__).parent / "unit_memory.c", *(SOURCES / name for name in MEMORY)]
    output = tmp_path_factory.mktemp("unit") / "unit_memory"
    return _compile(output, compiler=host_cc, sanitizers=request.param, sources=sources)


def _run(unit: Path, *arguments: str | Path) -> None:
    done = subprocess.run([unit, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def usage_file(tmp_path: Path) -> Path:
    """A fresh usage file."""
    path = tmp_path / "usage"
    path.touch()
    os.truncate(path, abi.USAGE_FILE_SIZE)
    return path


@pytest.mark.parametrize("part", ["limits", "ledger"])
@pytest.mark.parametrize("seed", ["1", "2"])
def test_parsing_and_ledger_hold_against_a_model(unit: Path, part: str, seed: str) -> None:
    """Every flipped bit of a limits page is noticed; the ledger answers as a plain array does."""
    _run(unit, part, "-", seed)


def test_what_a_dying_context_leaves_is_charged_until_it_is_gone(unit: Path) -> None:
    """Its addresses are another's already; its entries stay until they are settled, and are no hindrance to the other's."""
    _run(unit, "estate", "-")


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_a_usage_file_full_of_nonsense_is_survived(unit: Path, usage_file: Path, seed: str) -> None:
    """No content of the file leads outside of it, and the process's own figure stays right."""
    _run(unit, "usage", usage_file, seed)


def test_children_start_afresh_and_may_die_at_any_point(unit: Path, usage_file: Path) -> None:
    """A forked child has its own slot; whatever it leaves half done, the counter is made right."""
    _run(unit, "fork", usage_file)


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_processes_meet_in_a_usage_file(unit: Path, usage_file: Path, seed: str) -> None:
    """Eight processes together never hold more than the limit, however recounts and changes meet, and leave zero behind."""
    _run(unit, "processes", usage_file, seed)


def test_threads_meet_in_usage_and_ledger(unit: Path, usage_file: Path) -> None:
    """Eight threads reserve, note, forget and release; nothing is lost and the limit is never passed."""
    _run(unit, "threads", usage_file)


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_an_account_never_says_less_than_the_driver_holds(unit_memory: Path, seed: str) -> None:
    """Over a driver that keeps more than it hands out, gives back when it likes, and is asked out of order."""
    _run(unit_memory, "account", seed)


def test_threads_meet_in_an_account(unit_memory: Path) -> None:
    """Whatever the order of questions and answers, in the end nothing is charged for nothing."""
    _run(unit_memory, "threads", "1")


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_processes_that_hand_memory_to_each_other_and_die_hold_no_byte_too_much(
    unit_credit: Path, usage_file: Path, seed: str
) -> None:
    """Thirty-two lives, six at a time; what they know to hold never passes the limit, and in the end nothing is charged."""
    _run(unit_credit, "campaign", usage_file, seed)


@pytest.mark.parametrize("part", ["deaths", "stopped", "full", "lost", "stale"])
def test_a_credit_survives_what_happens_to_its_file(unit_credit: Path, usage_file: Path, part: str) -> None:
    """Holders die at any point or stop running, the table is full, the descriptor is closed, the driver uses a name again."""
    _run(unit_credit, part, usage_file)


def test_a_token_goes_with_the_open_file_and_with_nothing_else(unit_credit: Path) -> None:
    """Copies of a descriptor carry it; another descriptor of the same file does not."""
    _run(unit_credit, "tokens")
