"""Node plugin and keeper of the MPS daemons meet in a directory, and each knows whether the other lives."""

import fcntl
import struct
from pathlib import Path

import pytest

from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted
from hami_dra.host.mps_dir import MpsDirectory

DEVICE = DeviceName("gpu-0000-17-00-0")
WANTED = Wanted(uuid=GpuUuid("GPU-1"), percent=30, memory_bytes=1 << 30)


def locked(path: Path) -> bool:
    """Whether anybody locks the first byte, as the guard asks."""
    with path.open("rb") as file:
        asked = fcntl.fcntl(file, fcntl.F_OFD_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 1, 0))
    return bool(struct.unpack("hhqqi4x", asked)[0] != fcntl.F_UNLCK)


def test_what_is_asked_for_is_seen_by_the_keeper(tmp_path: Path) -> None:
    """Once, and until it is forgotten; the pipe directory is there for containers before any daemon is."""
    node, keeper = MpsDirectory(tmp_path / "mps"), MpsDirectory(tmp_path / "mps")
    assert (keeper.wanted(), keeper.left()) == ({}, set())
    node.want(DEVICE, WANTED)
    written = (tmp_path / "mps" / DEVICE / "wanted").stat().st_mtime_ns
    node.want(DEVICE, WANTED)
    assert (tmp_path / "mps" / DEVICE / "wanted").stat().st_mtime_ns == written
    assert keeper.wanted() == {DEVICE: WANTED}
    assert (tmp_path / "mps" / DEVICE / "pipe").is_dir()
    node.forget(DEVICE)
    node.forget(DEVICE)
    assert (keeper.wanted(), keeper.left()) == ({}, {DEVICE})
    keeper.remove(DEVICE)
    assert keeper.left() == set()


def test_an_answer_counts_as_long_as_its_keeper_lives(tmp_path: Path) -> None:
    """Without a keeper nobody says anything; a new one begins by taking back what the one before said."""
    node, keeper = MpsDirectory(tmp_path), MpsDirectory(tmp_path)
    node.want(DEVICE, WANTED)
    assert (node.kept(), node.answer(DEVICE)) == (False, None)
    with keeper.keep():
        assert (node.kept(), node.answer(DEVICE)) == (True, None)
        keeper.say(DEVICE, Answer(serves=WANTED))
        assert node.answer(DEVICE) == Answer(serves=WANTED)
        with pytest.raises(NodeStateError, match="another process keeps"), MpsDirectory(tmp_path).keep():
            pass
    assert (node.kept(), node.answer(DEVICE)) == (False, None)
    with keeper.keep():
        assert node.answer(DEVICE) is None


def test_clients_begin_while_a_daemon_serves_and_at_no_other_time(tmp_path: Path) -> None:
    """The lock that the guard asks for is there from the good word to the bad one, or to the keeper's end."""
    files = MpsDirectory(tmp_path)
    files.want(DEVICE, WANTED)
    alive = tmp_path / DEVICE / "pipe" / "alive"
    with files.keep():
        files.folders(DEVICE)
        for _ in range(2):
            files.say(DEVICE, Answer(serves=WANTED))
            files.say(DEVICE, Answer(serves=WANTED))
            assert locked(alive)
            files.say(DEVICE, Answer(serves=None, ends=1))
            assert not locked(alive)
        files.say(DEVICE, Answer(serves=WANTED))
    assert not locked(alive)


def test_one_that_is_asked_for_again_is_not_removed(tmp_path: Path) -> None:
    """The node plugin may be quicker than the keeper's broom."""
    files = MpsDirectory(tmp_path)
    files.want(DEVICE, WANTED)
    files.remove(DEVICE)
    assert files.wanted() == {DEVICE: WANTED}


def test_a_directory_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The message says which, and what to do."""
    (tmp_path / "mps").write_text("a file")
    with pytest.raises(NodeStateError, match="mps"):
        MpsDirectory(tmp_path / "mps").wanted()
    with pytest.raises(NodeStateError, match="mps"), MpsDirectory(tmp_path / "mps").keep():
        pass
