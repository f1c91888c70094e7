"""Looking at a node's files beside whoever works with them."""

import os
import socket
import tempfile
from pathlib import Path

import pytest
from unit.host.test_ledger import BOOT, accept, plan

from hami_dra.core.errors import NodeStateError
from hami_dra.core.record import Phase
from hami_dra.host import inspect
from hami_dra.host.guard_install import guard_build, install_guard
from hami_dra.host.ledger import Ledger


def test_the_ledger_is_read_beside_its_writer(tmp_path: Path) -> None:
    """Rows that are not yet in the main file, too, and without keeping the writer from anything."""
    ledger = Ledger(tmp_path / "ledger.db", boot=BOOT)
    train = plan()
    ledger.begin(train, check=accept)
    (entry,) = inspect.read_ledger(tmp_path / "ledger.db")
    assert (entry.phase, entry.boot, entry.plan) == (Phase.STARTED, BOOT, train)
    ledger.complete(train.uid)
    assert [entry.phase for entry in inspect.read_ledger(tmp_path / "ledger.db")] == [Phase.COMPLETED]
    ledger.close()


@pytest.mark.parametrize("content", [None, b"no database at all " * 100, b""])
def test_a_ledger_that_is_not_sound_is_said_to_be(content: bytes | None, tmp_path: Path) -> None:
    """Not there, not SQLite, or empty; none is made in its place."""
    path = tmp_path / "ledger.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NodeStateError, match="cannot read the ledger"):
        inspect.read_ledger(path)
    assert path.exists() is (content is not None)


def test_claims_and_builds_are_what_the_directories_hold(tmp_path: Path) -> None:
    """A build in the making is none."""
    library = tmp_path / "lib.so"
    library.write_bytes(b"a library")
    build = install_guard(library, guard_dir=tmp_path / "guard")
    (tmp_path / "guard" / ".new.17").mkdir()
    assert guard_build(library) == build
    assert inspect.guard_builds(tmp_path / "guard") == {build}
    assert inspect.guard_builds(tmp_path / "nowhere") == set()
    (tmp_path / "claims" / "uid-1").mkdir(parents=True)
    assert inspect.claim_directories(tmp_path / "claims") == {"uid-1"}
    assert inspect.claim_directories(tmp_path / "nowhere") == set()


def test_a_socket_answers_while_somebody_listens() -> None:
    """And not when its owner is dead or was never there."""
    with tempfile.TemporaryDirectory(prefix="hami-") as directory:
        path = Path(directory) / "a.sock"
        assert not inspect.answers(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind(str(path))
            server.listen()
            assert inspect.answers(path)
        assert not inspect.answers(path)


def test_what_is_in_the_way_of_writing_is_said(tmp_path: Path, read_only: Path) -> None:
    """Without making a file to find out."""
    assert inspect.obstacle_to_write(tmp_path) == ""
    assert inspect.obstacle_to_write(tmp_path / "nowhere") == "No such file or directory"
    assert inspect.obstacle_to_write(read_only / "there") == "the file system is read-only"
    assert inspect.is_executable(tmp_path)
    assert inspect.is_executable(tmp_path / "nowhere")


def test_age_and_room_of_directories(tmp_path: Path) -> None:
    """Of those that are there."""
    os.utime(tmp_path, (0, 0))
    age_s = inspect.changed_s(tmp_path)
    assert age_s is not None
    assert age_s > 1e9
    assert inspect.changed_s(tmp_path / "nowhere") is None
    room = inspect.free_room([tmp_path, tmp_path / "nowhere"])
    assert list(room) == [str(tmp_path)]
    assert min(room[str(tmp_path)]) > 0


def process(proc: Path, pid: int, *words: str, cgroup: str = "/pod") -> None:
    """A process of a procfs."""
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (folder / "cgroup").write_text(f"0::{cgroup}\n")


def test_the_node_plugin_is_found_by_the_uid_of_its_pod(tmp_path: Path) -> None:
    """Among those of other pods, and things that are no processes; its arguments begin with the subcommand."""
    process(tmp_path, 7, "python3", "-m", "hami_dra", "node", "--pod-uid=other")
    process(tmp_path, 8, "python3", "-m", "hami_dra", "node", "--node-name=n", "--pod-uid=mine")
    (tmp_path / "9").mkdir()
    (tmp_path / "cpuinfo").touch()
    assert inspect.plugin_process("mine", proc=tmp_path) == (8, ["node", "--node-name=n", "--pod-uid=mine"])
    assert inspect.plugin_process("nobody", proc=tmp_path) is None


def test_limits_of_a_process(tmp_path: Path) -> None:
    """Open files, unless there is no limit or no such process."""
    assert (inspect.open_files(os.getpid()) or 0) > 0
    assert inspect.open_files(1, proc=tmp_path) is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "limits").write_text(
        "Max open files            unlimited            unlimited            files\n"
    )
    assert inspect.open_files(1, proc=tmp_path) is None


def test_other_pods_are_seen_where_the_first_process_is_of_none(tmp_path: Path) -> None:
    """In a pid namespace of its own a container's first process is of its own cgroup."""
    process(tmp_path, 1, "init", cgroup="/")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/pod\n")
    assert inspect.sees_processes(proc=tmp_path)
    (tmp_path / "1" / "cgroup").write_text("0::/pod\n")
    assert not inspect.sees_processes(proc=tmp_path)
    assert not inspect.sees_processes(proc=tmp_path / "nowhere")
