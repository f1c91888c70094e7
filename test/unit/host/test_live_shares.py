"""Limits that change under running programs, and usage files as tenants leave them."""

import os
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.core.test_limits import LIMITS
from unit.core.test_usage import page

from hami_dra._gen import abi
from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import ClaimUid
from hami_dra.core.limits import decode, encode
from hami_dra.host.live_shares import LiveShares

UID = ClaimUid("train-uid")
KEY = LIMITS.share


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """The directory of one share, with both its files."""
    directory = tmp_path / "claims" / UID / KEY
    directory.mkdir(parents=True)
    (directory / "limits").write_bytes(encode(LIMITS))
    (directory / "usage").write_bytes(page((abi.USAGE_USED_BYTES_OFFSET, "Q", 77)))
    return directory


@pytest.fixture
def shares(tmp_path: Path) -> LiveShares:
    """The share files of a node."""
    return LiveShares(tmp_path / "claims", lock=tmp_path / "limits.lock")


def sequence(share: Path) -> int:
    """The page's seqlock."""
    return int.from_bytes((share / "limits").read_bytes()[abi.LIMITS_SEQUENCE_OFFSET :][:4], "little")


def set_sequence(share: Path, value: int) -> None:
    """As a writer that died would leave it."""
    content = bytearray((share / "limits").read_bytes())
    struct.pack_into("<I", content, abi.LIMITS_SEQUENCE_OFFSET, value)
    (share / "limits").write_bytes(content)


def test_a_change_stays_in_the_inode_and_grows_the_generation(share: Path, shares: LiveShares) -> None:
    """Containers hold the inode; sequence is even again, and the generation counts changes."""
    inode = (share / "limits").stat().st_ino
    assert shares.change(UID, replace(LIMITS, memory_limit_bytes=1 << 30))
    assert shares.change(UID, replace(LIMITS, granted_permille=125))
    assert decode((share / "limits").read_bytes()) == replace(LIMITS, granted_permille=125, generation=3)
    assert ((share / "limits").stat().st_ino, sequence(share)) == (inode, 4)


def test_a_page_that_says_so_already_is_not_touched(share: Path, shares: LiveShares) -> None:
    """Every change makes each process of the share read the page again: none for nothing."""
    assert shares.change(UID, replace(LIMITS, granted_permille=125))
    assert shares.change(UID, replace(LIMITS, granted_permille=125, generation=9))
    assert (sequence(share), decode((share / "limits").read_bytes()).generation) == (2, 2)


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_writer_killed_halfway_is_made_good(
    share: Path, shares: LiveShares, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Killed after any of its writes, a writer leaves an odd sequence; the next one ends what it began."""
    real = os.pwrite
    left = [killed_at]

    def pwrite(*arguments: Any) -> int:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*arguments)

    wanted = replace(LIMITS, memory_limit_bytes=1 << 30)
    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(KeyboardInterrupt):
        shares.change(UID, wanted)
    monkeypatch.undo()
    assert sequence(share) % 2 == 1
    assert shares.change(UID, wanted)
    assert sequence(share) % 2 == 0
    assert replace(decode((share / "limits").read_bytes()), generation=1) == wanted


@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(abi.LIMITS_SIZE)])
def test_a_page_that_cannot_be_read_is_written_anew(share: Path, shares: LiveShares, content: bytes) -> None:
    """Whatever happened to it, afterwards it says what the ledger says."""
    (share / "limits").write_bytes(content)
    assert shares.change(UID, LIMITS)
    assert replace(decode((share / "limits").read_bytes()), generation=1) == LIMITS


def test_the_sequence_wraps(share: Path, shares: LiveShares) -> None:
    """After four thousand million writes comes zero, which is even."""
    set_sequence(share, 2**32 - 2)
    assert shares.change(UID, replace(LIMITS, granted_permille=1))
    assert sequence(share) == 0


def test_a_file_of_an_earlier_release_is_made_writable(
    share: Path, shares: LiveShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without capabilities a mode of 0444 keeps even its owner from writing, root included."""
    (share / "limits").chmod(0o444)
    real = os.open

    def without_capabilities(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR and path.exists() and not path.stat().st_mode & 0o200:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", without_capabilities)
    assert shares.change(UID, replace(LIMITS, granted_permille=1))
    assert decode((share / "limits").read_bytes()).granted_permille == 1


def test_a_share_that_is_gone_is_no_error(share: Path, shares: LiveShares) -> None:
    """Unprepare may come between any two steps."""
    gone = replace(LIMITS, share=type(KEY)("gone"))
    assert shares.change(UID, gone) is False
    assert shares.usage(UID, gone.share) is None
    assert shares.change(ClaimUid(f"{UID}/{KEY}/limits"), LIMITS) is False
    assert share.is_dir()


def test_a_directory_in_place_of_the_page_is_an_error(share: Path, shares: LiveShares) -> None:
    """What cannot be written is said, with the path."""
    (share / "limits").unlink()
    (share / "limits").mkdir()
    with pytest.raises(NodeStateError, match=r"cannot change limits: .*/limits"):
        shares.change(UID, LIMITS)


def test_a_disk_that_fails_is_an_error(share: Path, shares: LiveShares, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page stays odd, readers keep what they knew, and the next change tries again."""

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(NodeStateError, match="Input/output error"):
            shares.change(UID, replace(LIMITS, granted_permille=1))
    assert shares.change(UID, replace(LIMITS, granted_permille=1))
    assert sequence(share) == 2


@pytest.mark.parametrize("size", [0, 100, abi.USAGE_SIZE - 1])
def test_a_usage_file_cut_short_says_nothing(share: Path, shares: LiveShares, size: int) -> None:
    """A tenant may truncate it at any moment; the reader maps nothing, so it cannot die of that."""
    whole = shares.usage(UID, KEY)
    assert whole is not None
    assert whole.used_bytes == 77
    os.truncate(share / "usage", size)
    assert shares.usage(UID, KEY) is None


def test_a_directory_in_place_of_the_usage_file_says_nothing(share: Path, shares: LiveShares) -> None:
    """Whatever lies there, reading it ends in nothing worse than nothing."""
    (share / "usage").unlink()
    (share / "usage").mkdir()
    assert shares.usage(UID, KEY) is None


def test_the_stamp_tells_that_claims_came_or_went(shares: LiveShares, tmp_path: Path) -> None:
    """One look at a directory says whether the ledger has to be read again."""
    assert shares.stamp() == 0
    (tmp_path / "claims").mkdir()
    before = shares.stamp()
    os.utime(tmp_path / "claims", ns=(1, 1))
    assert before != shares.stamp() != 0


def test_one_process_changes_limits(shares: LiveShares, tmp_path: Path) -> None:
    """During a rolling update two node plugins run on one node: the second one waits for its turn."""
    other = LiveShares(tmp_path / "claims", lock=tmp_path / "limits.lock")
    with shares.alone() as mine:
        assert mine
        with other.alone() as theirs:
            assert not theirs
    with other.alone() as theirs:
        assert theirs
    with pytest.raises(NodeStateError, match="open the lock"), LiveShares(tmp_path, lock=tmp_path / "a" / "b").alone():
        pass


def test_a_reader_never_sees_half_a_change(share: Path, shares: LiveShares) -> None:
    """Whoever copies the page between two equal even sequences has one of the pages that were written."""
    stop = threading.Event()
    torn: list[bytes] = []

    def read() -> None:
        with (share / "limits").open("rb", buffering=0) as file:
            while not stop.is_set():
                before, content, after = (os.pread(file.fileno(), abi.LIMITS_SIZE, 0) for _ in range(3))
                before, after = before[12:16], after[12:16]
                if before == after == content[12:16] and before[0] % 2 == 0:
                    try:
                        decode(content)
                    except ValueError:
                        torn.append(content)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 300):
        assert shares.change(UID, replace(LIMITS, granted_permille=number, memory_limit_bytes=number << 20))
    stop.set()
    reader.join()
    assert torn == []
