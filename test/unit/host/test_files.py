"""Files, the CDI directory, share files, the guard's builds, locks and the boot id."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from hami_dra._lib.threads import Group
from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.host.boot import boot_id
from hami_dra.host.cdi_dir import CdiDirectory
from hami_dra.host.files import create_zeroed, make_directory, remove_tree, write_atomic
from hami_dra.host.guard_install import install_guard
from hami_dra.host.locks import ClaimLocks
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually

UID = ClaimUid("5a4b0000-0000-4000-8000-000000000001")


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    """The new content comes under the same name in one step, whatever the umask is, and nothing else is left."""
    path = tmp_path / "file.json"
    umask = os.umask(0o077)
    try:
        write_atomic(path, b"one", mode=0o644)
        write_atomic(path, b"two", mode=0o644, durable=True)
    finally:
        os.umask(umask)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


def test_a_file_that_cannot_be_written_says_why(read_only: Path) -> None:
    """The error names the path and what to do."""
    with pytest.raises(NodeStateError, match=r"there/file: Read-only file system; .*mount it writable"):
        write_atomic(read_only / "there" / "file", b"x", mode=0o644)
    with pytest.raises(NodeStateError, match="make a directory"):
        make_directory(read_only / "new", mode=0o755)
    with pytest.raises(NodeStateError, match="remove a directory"):
        remove_tree(read_only / "there")


def test_a_file_in_the_place_of_a_directory_is_removed(tmp_path: Path) -> None:
    """What somebody put there does not stop a start for ever."""
    (tmp_path / "stray").touch()
    remove_tree(tmp_path / "stray")
    remove_tree(tmp_path / "stray")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_file(small_disk: Path) -> None:
    """Neither a written nor a zeroed file that does not fit leaves anything behind."""
    with pytest.raises(NodeStateError, match="the disk is full"):
        write_atomic(small_disk / "big", bytes(1 << 20), mode=0o644)
    with pytest.raises(NodeStateError, match="the disk is full"):
        create_zeroed(small_disk / "big", size=1 << 20, mode=0o644)
    assert list(small_disk.iterdir()) == []


def test_a_zeroed_file_is_not_made_twice(tmp_path: Path) -> None:
    """One that exists keeps what is in it."""
    path = tmp_path / "usage"
    create_zeroed(path, size=8192, mode=0o666)
    assert path.read_bytes() == bytes(8192)
    path.write_bytes(b"in use")
    create_zeroed(path, size=8192, mode=0o666)
    assert path.read_bytes() == b"in use"


def test_cdi_files_come_and_go(tmp_path: Path) -> None:
    """One file a claim, named as CDI wants transient specs; the same spec again is not written again."""
    cdi = CdiDirectory(tmp_path / "cdi")
    cdi.check()
    cdi.write(UID, {"kind": "gpu.hami.io/claim"})
    path = tmp_path / "cdi" / f"gpu.hami.io-claim_{UID}.json"
    assert json.loads(path.read_text()) == {"kind": "gpu.hami.io/claim"}
    before = path.stat().st_ino
    cdi.write(UID, {"kind": "gpu.hami.io/claim"})
    assert path.stat().st_ino == before
    cdi.write(UID, {"kind": "other"})
    assert path.stat().st_ino != before
    assert cdi.uids() == {UID}
    cdi.remove(UID)
    cdi.remove(UID)
    assert cdi.uids() == set()


def test_a_cdi_directory_that_vanishes_comes_back(tmp_path: Path) -> None:
    """Somebody who wipes /var/run does not stop preparations."""
    cdi = CdiDirectory(tmp_path / "cdi")
    assert cdi.uids() == set()
    cdi.write(UID, {})
    assert cdi.uids() == {UID}


def test_a_read_only_cdi_directory_is_found_at_the_start(read_only: Path) -> None:
    """The check says which directory and what it means."""
    with pytest.raises(NodeStateError, match=r"the CDI directory cannot be written.*there.*mount it writable"):
        CdiDirectory(read_only / "there").check()
    with pytest.raises(NodeStateError, match="Read-only file system"):
        CdiDirectory(read_only / "there").write(UID, {})


def test_remains_of_killed_writers_are_swept(tmp_path: Path) -> None:
    """Temporary files of ours on which nobody worked for a minute go; others stay, whatever a clock that jumped says."""
    clock = FakeClock()
    cdi = CdiDirectory(tmp_path, clock=clock)
    dead, busy, foreign = (
        tmp_path / name
        for name in (".gpu.hami.io-claim_x.json.hami-tmp", ".gpu.hami.io-claim_y.json.hami-tmp", ".other.hami-tmp")
    )
    for path in (dead, busy, foreign):
        path.touch()
        os.utime(path, (0, 0))
    cdi.sweep()
    clock.advance(59.0)
    cdi.sweep()
    assert dead.exists()
    busy.write_text("more", encoding="utf-8")
    clock.advance(1.0)
    cdi.sweep()
    assert sorted(tmp_path.iterdir()) == sorted([busy, foreign])


def test_a_guard_is_installed_once_and_never_changed(tmp_path: Path) -> None:
    """Each build has a directory of its own, which the next start finds and leaves alone."""
    library = tmp_path / "libhami_guard.so"
    library.write_bytes(b"first build")
    first = install_guard(library, guard_dir=tmp_path / "guard")
    directory = tmp_path / "guard" / first
    assert (directory / "ld.so.preload").read_text() == "/usr/local/hami/libhami_guard.so\n"
    inode = (directory / "libhami_guard.so").stat().st_ino
    assert install_guard(library, guard_dir=tmp_path / "guard") == first
    assert (directory / "libhami_guard.so").stat().st_ino == inode
    library.write_bytes(b"second build")
    second = install_guard(library, guard_dir=tmp_path / "guard")
    assert {path.name for path in (tmp_path / "guard").iterdir()} == {first, second}
    with pytest.raises(NodeStateError, match="read the guard"):
        install_guard(tmp_path / "nothing", guard_dir=tmp_path / "guard")


def test_a_lock_excludes_other_threads_and_other_claims_go_on(tmp_path: Path) -> None:
    """Whoever is inside keeps others out of this claim only, and is followed by the one who waits."""
    with Group("locks") as group:
        locks = ClaimLocks(tmp_path / "locks", group=group, timeout_s=20.0)
        entered = threading.Event()

        def second() -> None:
            with locks.hold(UID):
                entered.set()

        with locks.hold(UID):
            group.spawn("second", second)
            with locks.try_hold(UID) as mine:
                assert not mine
            with locks.hold(ClaimUid("another")), locks.try_hold(ClaimUid("a third")) as mine:
                assert mine
            assert not entered.is_set()
        eventually(entered.is_set)
        group.join(5.0)


def test_a_lock_that_is_held_too_long_is_an_error(tmp_path: Path) -> None:
    """A call that waits longer than kubelet would says what it waits for."""
    with Group("locks") as group:
        locks = ClaimLocks(tmp_path / "locks", group=group, timeout_s=0.0)
        with locks.hold(UID), pytest.raises(NodeStateError, match="worked on by another call"), locks.hold(UID):
            pass


def test_the_boot_id_is_the_kernels(tmp_path: Path) -> None:
    """It reads the kernel's, and an empty or missing file is an error."""
    assert boot_id() == boot_id()
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        with pytest.raises(NodeStateError, match="boot id"):
            boot_id(tmp_path / name)
