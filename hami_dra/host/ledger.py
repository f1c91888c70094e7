"""The durable record of every prepared claim: one SQLite file, one row a claim.

A row is written as Started before anything else of a claim exists and turned to Completed when all of it does, so that after
a kill -9 at any moment the files on the node can be told from their remains.  The capacity check and the Started row are one
transaction: two node plugins that overlap during a rolling update cannot both give away the last of a device.

Writers that come together share one commit: whoever finds the door open commits for all who wait.  Nobody waits for the disk:
a row counts for the boot that wrote it and for no other, so it must outlive this process (what reached the kernel does) and
need not outlive the kernel.  A file that a loss of power left damaged is moved aside like any other.
Errors of SQLite leave here as `NodeStateError`, with what to do.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hami_dra.core.errors import HamiDraError, LedgerCorrupt, NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.core.plan import ClaimPlan
from hami_dra.core.record import Entry, Phase, from_json, to_json
from hami_dra.host.files import make_directory, node_state_error
from hami_dra.host.plan_cache import PlanCache

__all__ = ["Ledger"]

_APPLICATION_ID = 0x48414D49  # "HAMI"
_SCHEMA = 1
_CREATE = (
    "CREATE TABLE claims (uid TEXT PRIMARY KEY, phase TEXT NOT NULL, boot TEXT NOT NULL, record TEXT NOT NULL)"
    " WITHOUT ROWID"
)
_BUSY_S = 10.0
_RETRY_S = 0.005
_LOG_BYTES = 4_500_000
"""What the write-ahead log grows to before SQLite starts it over (1000 pages), and some more."""
_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_ADVICE = {
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "the file system is read-only: mount it writable",
    "SQLITE_CANTOPEN": "check that the directory exists and may be written",
    "SQLITE_IOERR": "the disk is full or failing: see the kernel's log",
    "SQLITE_BUSY": "another process holds it: is a second node plugin stuck?",
    "SQLITE_CORRUPT": "the file is damaged: restart the node plugin, which makes it anew from the share files",
    "SQLITE_NOTADB": "the file is damaged: restart the node plugin, which makes it anew from the share files",
}


@dataclass(slots=True)
class _Write:
    """One change that waits for a commit."""

    apply: Callable[[sqlite3.Connection], None]
    done: bool = field(default=False)
    error: HamiDraError | None = field(default=None)


class Ledger:
    """The ledger of one node, as one process sees it.  Safe to use from many threads and from two processes."""

    def __init__(self, path: Path, *, boot: str) -> None:
        """Open the ledger at `path`, or make one.

        A damaged file is moved aside (see `moved_aside`), and an empty ledger takes its place.

        Args:
            path: of the SQLite file.
            boot: id of the running boot: rows of another one count for nothing.

        Raises:
            LedgerCorrupt: a newer release wrote it.
            NodeStateError: it cannot be opened.
        """
        self._path = path
        self._boot = boot
        self._live_plans = PlanCache()
        """Of this boot; for the writer alone."""
        self._all_plans = PlanCache()
        """For `entries`, under the lock of the reader."""
        self._waiting: list[_Write] = []
        self._waiting_lock = threading.Lock()
        self._writer_lock = threading.Lock()
        self._reader_lock = threading.Lock()
        make_directory(path.parent, mode=0o711)
        self.moved_aside: Path | None = None
        """Where a damaged predecessor lies now."""
        self.made_anew = not _has_content(path)
        """Whether nothing was known when it was opened: the first start on a node, or somebody removed or emptied the file."""
        try:
            self._writer = self._open()
        except LedgerCorrupt:
            if _newer_schema(path):
                raise
            self.moved_aside = _move_aside(path)
            self.made_anew = True
            self._writer = self._open()
        self._reader = self._connect()
        _reserve(self._writer, path.with_name(f"{path.name}-wal"))

    def close(self) -> None:
        """Close the file."""
        with self._writer_lock, self._reader_lock:
            self._writer.close()
            self._reader.close()

    def get(self, uid: ClaimUid) -> Entry | None:
        """What is known of the claim.

        Raises:
            NodeStateError: the ledger cannot be read.
        """
        with self._reader_lock:
            rows = self._read("SELECT phase, boot, record FROM claims WHERE uid = ?", (uid,))
        return _entry(*rows[0]) if rows else None

    def entries(self) -> list[Entry]:
        """Everything, those of another boot too.

        Raises:
            NodeStateError: the ledger cannot be read.
        """
        with self._reader_lock:
            rows = self._read("SELECT uid, phase, boot, record FROM claims ORDER BY uid", ())
            plans = self._all_plans.read((uid, record) for uid, _, _, record in rows)
        return [
            Entry(phase=Phase(phase), boot=boot, plan=plan)
            for (_, phase, boot, _), plan in zip(rows, plans, strict=True)
        ]

    def begin(self, plan: ClaimPlan, *, check: Callable[[Sequence[ClaimPlan]], None]) -> None:
        """Write the claim down as Started, if `check` does not raise when given all other claims of this boot.

        Raises:
            HamiDraError: what `check` raised; nothing was written.
            NodeStateError: the ledger cannot be written.
        """
        record = to_json(plan)

        def apply(connection: sqlite3.Connection) -> None:
            rows = connection.execute("SELECT uid, record FROM claims WHERE boot = ?", (self._boot,))
            check([other for other in self._live_plans.read(rows) if other.uid != plan.uid])
            self._insert(connection, uid=plan.uid, phase=Phase.STARTED, record=record)

        self._commit(_Write(apply))

    def complete(self, uid: ClaimUid) -> None:
        """Turn Started to Completed.

        Raises:
            NodeStateError: the ledger cannot be written, or somebody removed the claim.
        """

        def apply(connection: sqlite3.Connection) -> None:
            changed = connection.execute("UPDATE claims SET phase = ? WHERE uid = ?", (Phase.COMPLETED, uid)).rowcount
            if changed != 1:
                raise NodeStateError(
                    f"claim {uid} was removed from the ledger while it was being prepared; it is tried again"
                )

        self._commit(_Write(apply))

    def remove(self, uid: ClaimUid) -> None:
        """Forget the claim; an unknown one is no error.

        Raises:
            NodeStateError: the ledger cannot be written.
        """
        self._commit(_Write(lambda connection: _execute(connection, "DELETE FROM claims WHERE uid = ?", (uid,))))

    def restore(self, entries: Iterable[Entry]) -> None:
        """Add claims as Completed that are known from elsewhere; those that the ledger knows stay as they are.

        Raises:
            NodeStateError: the ledger cannot be written.
        """
        rows = [(entry.plan.uid, entry.phase, entry.boot, to_json(entry.plan)) for entry in entries]

        def apply(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?)", rows)

        self._commit(_Write(apply))

    def _insert(self, connection: sqlite3.Connection, *, uid: ClaimUid, phase: Phase, record: str) -> None:
        _execute(connection, "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", (uid, phase, self._boot, record))

    def _read(self, statement: str, parameters: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Rows; the caller holds the lock of the reader."""
        try:
            return self._reader.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _translate("read", self._path, error) from error

    def _commit(self, write: _Write) -> None:
        """Have the change committed, by this thread or by one that commits for several."""
        with self._waiting_lock:
            self._waiting.append(write)
        with self._writer_lock:
            if not write.done:
                with self._waiting_lock:
                    batch, self._waiting = self._waiting, []
                self._commit_batch(batch)
        if write.error is not None:
            raise write.error

    def _commit_batch(self, batch: list[_Write]) -> None:
        failure: NodeStateError | None = NodeStateError(
            f"cannot write the ledger: {self._path}: a change beside this one failed"
        )
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._apply(write)
            self._writer.execute("COMMIT")
            failure = None
        except sqlite3.Error as error:
            failure = _translate("write", self._path, error)
        finally:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for write in batch:
                write.error = write.error or failure
                write.done = True

    def _apply(self, write: _Write) -> None:
        self._writer.execute("SAVEPOINT one")
        try:
            write.apply(self._writer)
        except HamiDraError as error:
            write.error = error
            self._writer.execute("ROLLBACK TO one")
        self._writer.execute("RELEASE one")

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            _verify(connection)
        except sqlite3.Error as error:
            connection.close()
            raise _translate("open", self._path, error) from error
        except LedgerCorrupt:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _translate("open", self._path, error) from error
        try:
            _turn_on_wal(connection)
            connection.execute("PRAGMA synchronous = OFF")
        except sqlite3.Error as error:
            connection.close()
            raise _translate("open", self._path, error) from error
        return connection


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    """Two that make the file at once meet here, and SQLite does not wait for its busy time-out where waiting could deadlock."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def _verify(connection: sqlite3.Connection) -> None:
    """Make the table if the file is new; else see that it is ours and whole."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.execute(_CREATE)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA}")
        elif version != _SCHEMA or connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise LedgerCorrupt(
                f"the ledger has schema {version}, but this release of hami-dra knows {_SCHEMA}:"
                " go back to the release that wrote it, or drain the node and remove the file"
            )
        if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise LedgerCorrupt(f"the ledger is damaged: {said}")
        for (record,) in connection.execute("SELECT record FROM claims"):
            from_json(record)
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def _reserve(connection: sqlite3.Connection, log: Path) -> None:
    """Give the write-ahead log its full size now.

    A file that grows waits for the journal of the file system, hence for whatever else is being flushed to the disk, and forty
    starting containers flush much; one that is overwritten does not.  SQLite stops reading a log at the first frame that does
    not belong to it, so zeros behind the end say nothing.  A disk without room for it is merely slower.
    """
    try:
        connection.execute("BEGIN IMMEDIATE")  # nobody else writes the log now
        descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
        try:
            _fill(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise node_state_error("open the ledger's log", log, error) from error
    except sqlite3.Error as error:
        raise _translate("write", log, error) from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _fill(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    try:
        end = size
        while end < _LOG_BYTES:
            end += os.pwrite(descriptor, bytes(_LOG_BYTES - end), end)
    except OSError:
        os.ftruncate(descriptor, size)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _newer_schema(path: Path) -> bool:
    """Whether the file is a sound ledger of a newer release: moving that aside would hide a downgrade."""
    try:
        connection = sqlite3.connect(path, isolation_level=None)
    except sqlite3.Error:
        return False
    try:
        return bool(connection.execute("PRAGMA user_version").fetchone()[0] > _SCHEMA)
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def _move_aside(path: Path) -> Path:
    number = next(n for n in range(1, 1_000_000) if not path.with_name(f"{path.name}.corrupt-{n}").exists())
    target = path.with_name(f"{path.name}.corrupt-{number}")
    try:
        path.replace(target)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise node_state_error("move the damaged ledger aside", path, error) from error
    return target


def _entry(phase: str, boot: str, record: str) -> Entry:
    return Entry(phase=Phase(phase), boot=boot, plan=from_json(record))


def _execute(connection: sqlite3.Connection, statement: str, parameters: tuple[str, ...]) -> None:
    connection.execute(statement, parameters)


def _translate(what: str, path: Path, error: sqlite3.Error) -> NodeStateError:
    name = getattr(error, "sqlite_errorname", None) or ""
    advice = next((text for prefix, text in _ADVICE.items() if name.startswith(prefix)), None)
    kind = LedgerCorrupt if name.startswith(_CORRUPT) else NodeStateError
    return kind(f"cannot {what} the ledger: {path}: {error}" + (f"; {advice}" if advice else ""))
