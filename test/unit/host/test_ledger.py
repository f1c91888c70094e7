"""The ledger: what it remembers, who may write at once, and how it says that it cannot."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from hami_dra._lib.threads import Group
from hami_dra.core.allocation import read_allocation
from hami_dra.core.capacity import check_capacity
from hami_dra.core.errors import CapacityExceeded, LedgerCorrupt, NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.record import Entry, Phase
from hami_dra.core.resolve import resolve
from hami_dra.host.ledger import Ledger
from hami_dra.testing.gpus import allocated_claim, inventory, share_result

BOOT = "boot-1"


def plan(name: str = "train", *, memory_gib: int = 16, cores: int = 0) -> ClaimPlan:
    """A plan for one share of the first card."""
    claim = allocated_claim(name, share_result(share_id=f"share-of-{name}", memory_gib=memory_gib, cores=cores))
    allocation = read_allocation(claim)
    return plan_claim(allocation, resolve(allocation), inventory())


def fits(mine: ClaimPlan) -> Callable[[Sequence[ClaimPlan]], None]:
    """The check that the state machine does."""
    return lambda others: check_capacity(mine, others, inventory())


def accept(_others: Sequence[ClaimPlan]) -> None:
    """A check that lets everything through."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger(tmp_path / "ledger.db", boot=BOOT)
    yield ledger
    ledger.close()


def test_a_row_goes_from_started_to_completed_and_away(ledger: Ledger) -> None:
    """The life of a claim, as another process would read it."""
    train = plan()
    assert ledger.get(train.uid) is None
    ledger.begin(train, check=accept)
    assert ledger.get(train.uid) == Entry(phase=Phase.STARTED, boot=BOOT, plan=train)
    ledger.complete(train.uid)
    assert [entry.phase for entry in ledger.entries()] == [Phase.COMPLETED]
    ledger.remove(train.uid)
    ledger.remove(train.uid)
    assert ledger.entries() == []


def test_what_is_written_outlives_the_process(tmp_path: Path) -> None:
    """A ledger that was never closed, as after a kill -9, has everything that was committed."""
    first = Ledger(tmp_path / "ledger.db", boot=BOOT)
    first.begin(plan("a"), check=accept)
    first.begin(plan("b"), check=accept)
    first.complete(plan("b").uid)
    second = Ledger(tmp_path / "ledger.db", boot=BOOT)
    assert {entry.plan.name: entry.phase for entry in second.entries()} == {"a": Phase.STARTED, "b": Phase.COMPLETED}
    first.close()
    second.close()


def test_a_check_that_refuses_leaves_no_row(ledger: Ledger) -> None:
    """The check and the row are one: a refusal writes nothing, and does not hurt what is committed with it."""
    ledger.begin(plan("first", memory_gib=70), check=accept)
    late = plan("late", memory_gib=20)
    with pytest.raises(CapacityExceeded):
        ledger.begin(late, check=fits(late))
    assert ledger.get(late.uid) is None


def test_a_check_sees_the_others_of_this_boot(tmp_path: Path) -> None:
    """The claim itself and rows of another boot are not among the others."""
    old = Ledger(tmp_path / "ledger.db", boot="another boot")
    old.begin(plan("old"), check=accept)
    old.close()
    ledger = Ledger(tmp_path / "ledger.db", boot=BOOT)
    ledger.begin(plan("first"), check=accept)
    seen: list[str] = []
    ledger.begin(plan("second"), check=lambda others: seen.extend(other.name for other in others))
    ledger.begin(plan("second"), check=lambda others: seen.extend(other.name for other in others))
    assert seen == ["first", "first"]
    ledger.close()


def test_completing_a_claim_that_somebody_removed_is_an_error(ledger: Ledger) -> None:
    """A row that is gone cannot be completed without a word."""
    with pytest.raises(NodeStateError, match="was removed from the ledger"):
        ledger.complete(ClaimUid("gone"))


def test_many_threads_never_overbook_a_card(ledger: Ledger) -> None:
    """Forty writers at once on a card with room for eight: eight get in, whoever commits for whom."""
    outcomes: list[bool] = []
    gate = threading.Barrier(20)

    def work(index: int) -> None:
        gate.wait(10.0)
        for number in range(2):
            mine = plan(f"claim-{index}-{number}", memory_gib=10)
            try:
                ledger.begin(mine, check=fits(mine))
                ledger.complete(mine.uid)
                outcomes.append(True)
            except CapacityExceeded:
                outcomes.append(False)

    with Group("writers", join_s=60.0) as group:
        for index in range(20):
            group.spawn(f"writer-{index}", lambda index=index: work(index))  # type: ignore[misc]
        group.wait_until(lambda: False, timeout_s=0)
        group.join(60.0)
    assert (sum(outcomes), len(outcomes)) == (8, 40)
    assert len(ledger.entries()) == 8


_WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from unit.host.test_ledger import fits, plan
from hami_dra.core.errors import CapacityExceeded
from hami_dra.host.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), boot="boot-1")
print("ready", flush=True)
sys.stdin.readline()
won = 0
for number in range(8):
    mine = plan(f"{sys.argv[2]}-{number}", memory_gib=10)
    try:
        ledger.begin(mine, check=fits(mine))
        ledger.complete(mine.uid)
        won += 1
    except CapacityExceeded:
        pass
print(won, flush=True)
"""


def test_two_processes_never_overbook_a_card(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Two node plugins of a rolling update share the card between them, whichever is faster."""
    root = pytestconfig.rootpath
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "ledger.db")]
    writers = [
        subprocess.Popen(
            [*command, name, str(root), str(root / "test")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    results = [writer.communicate("go\n", timeout=60.0)[0] for writer in writers]
    assert sum(int(result) for result in results) == 8


def test_a_file_that_is_no_ledger_is_moved_aside(tmp_path: Path) -> None:
    """Garbage in the place of the ledger is kept for whoever wants to know, and an empty ledger takes its place."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"garbage " * 1000)
    ledger = Ledger(path, boot=BOOT)
    assert ledger.moved_aside == tmp_path / "ledger.db.corrupt-1"
    assert ledger.moved_aside.read_bytes() == b"garbage " * 1000
    assert ledger.entries() == []
    ledger.close()


def test_a_damaged_page_is_found_at_the_start(tmp_path: Path) -> None:
    """A database whose pages were overwritten does not pass for a ledger."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, boot=BOOT)
    for number in range(100):
        ledger.begin(plan(f"claim-{number}"), check=accept)
    ledger.close()
    content = bytearray(path.read_bytes())
    content[4096 : 4096 + 2048] = b"\xff" * 2048
    path.write_bytes(content)
    again = Ledger(path, boot=BOOT)
    assert again.moved_aside is not None
    again.close()


def test_a_record_that_cannot_be_read_is_damage_too(tmp_path: Path) -> None:
    """A row that says nothing makes capacity unknowable, so the ledger is made anew."""
    path = tmp_path / "ledger.db"
    Ledger(path, boot=BOOT).close()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO claims VALUES ('x', 'Completed', 'boot-1', '{}')")
    connection.commit()
    connection.close()
    ledger = Ledger(path, boot=BOOT)
    assert ledger.moved_aside is not None
    ledger.close()


def test_a_ledger_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    """A downgrade stops with what to do, and the file stays as it is."""
    path = tmp_path / "ledger.db"
    Ledger(path, boot=BOOT).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerCorrupt, match="has schema 7, but this release of hami-dra knows 1"):
        Ledger(path, boot=BOOT)
    assert list(tmp_path.glob("*.corrupt-*")) == []


def test_a_full_disk_is_named(small_disk: Path) -> None:
    """When there is no room for a row, the error says so, and the ledger works again when there is."""
    ledger = Ledger(small_disk / "ledger.db", boot=BOOT)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(1 << 20))
    with pytest.raises(NodeStateError, match=r"cannot write the ledger.*full"):
        _fill(ledger)
    filler.unlink()
    ledger.begin(plan("after"), check=accept)
    ledger.complete(plan("after").uid)
    assert ledger.get(plan("after").uid) is not None
    ledger.close()


def _fill(ledger: Ledger) -> None:
    for number in range(50):
        ledger.begin(plan(f"claim-{number}"), check=accept)


def test_a_read_only_directory_is_named(read_only: Path) -> None:
    """A state directory that cannot be written stops the start with its path and what to do."""
    with pytest.raises(NodeStateError, match=r"there: Read-only file system; .*mount it writable"):
        Ledger(read_only / "there" / "ledger.db", boot=BOOT)


def test_restoring_keeps_what_is_known(ledger: Ledger) -> None:
    """Rows made again from share files do not replace newer ones."""
    ledger.begin(plan("a"), check=accept)
    ledger.restore([Entry(phase=Phase.COMPLETED, boot=BOOT, plan=plan(name)) for name in ("a", "b")])
    assert {entry.plan.name: entry.phase for entry in ledger.entries()} == {"a": Phase.STARTED, "b": Phase.COMPLETED}


def test_the_log_has_its_full_size_from_the_start(tmp_path: Path, small_disk: Path) -> None:
    """A change then never waits for the file system to grow the log; where there is no room the ledger works all the same."""
    ledger = Ledger(tmp_path / "ledger.db", boot=BOOT)
    log = tmp_path / "ledger.db-wal"
    size = log.stat().st_size
    assert size > 4_000_000
    for number in range(300):
        ledger.begin(plan(f"claim-{number}"), check=accept)
        ledger.remove(plan(f"claim-{number - 5}").uid)
    assert log.stat().st_size == size
    second = Ledger(tmp_path / "ledger.db", boot=BOOT)
    assert len(second.entries()) == 5
    second.close()
    ledger.close()
    small = Ledger(small_disk / "ledger.db", boot=BOOT)
    small.begin(plan(), check=accept)
    assert (small_disk / "ledger.db-wal").stat().st_size < 1 << 19
    small.close()
