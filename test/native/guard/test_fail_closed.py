"""What cannot be believed limits to nothing, never to everything, and nothing that a tenant writes brings a program down."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Share, make_share

from hami_dra._gen import abi

UUID = "GPU-11111111-1111-1111-1111-111111111111"
OTHER_UUID = "GPU-22222222-2222-2222-2222-222222222222"
LIMIT = 1000

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


@pytest.fixture
def share(tmp_path: Path) -> Share:
    """A share of the stub's first device."""
    return make_share(tmp_path, "share", uuid=UUID, memory_bytes=LIMIT)


def _overwrite(path: Path, *, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (abi.LIMITS_MAGIC_OFFSET, b"HAMILIM2"),
        (abi.LIMITS_ABI_VERSION_OFFSET, b"\x02"),
        (abi.LIMITS_CHECKSUM_OFFSET, b"\x00\x00\x00\x00"),
        (abi.LIMITS_SEQUENCE_OFFSET, b"\x01"),
        (abi.LIMITS_MEMORY_LIMIT_BYTES_OFFSET, b"\xff" * 8),
        (abi.LIMITS_DEVICE_UUID_OFFSET, b"\x00"),
    ],
)
def test_limits_that_cannot_be_believed_close_the_devices(
    offset: int, data: bytes, share: Share, stub_container: MakeContainer
) -> None:
    """Nobody knows which device the share was for, so no device gives memory."""
    _overwrite(share.directory / "limits", offset=offset, data=data)
    for device in (0, 1):
        with stub_container(shares=[share.directory]).client() as client:
            client.start(device)
            assert client.allocate(1) == OUT_OF_MEMORY
            assert client.ask("held 0") == ["0"]


def test_a_missing_or_short_limits_file_closes_the_devices(share: Share, stub_container: MakeContainer) -> None:
    """A share directory without a whole limits file is a broken share."""
    os.truncate(share.directory / "limits", 100)
    with stub_container(shares=[share.directory]).client() as client:
        assert client.start().allocate(1) == OUT_OF_MEMORY
    (share.directory / "limits").unlink()
    with stub_container(shares=[share.directory]).client() as client:
        assert client.start().allocate(1) == OUT_OF_MEMORY


def test_limits_on_a_writable_mount_are_no_limits(share: Share, stub_container: MakeContainer) -> None:
    """A tenant who is root can make directories and files, but no read-only mounts: such a file is not the node plugin's."""
    with stub_container(shares=[share.directory], writable_limits=True).client() as client:
        assert client.start().allocate(1) == OUT_OF_MEMORY


def test_a_valid_share_works_beside_a_broken_one(share: Share, stub_container: MakeContainer, tmp_path: Path) -> None:
    """The device that a valid share names stays usable within it; every other device is closed."""
    broken = make_share(tmp_path, "broken", uuid=OTHER_UUID, memory_bytes=LIMIT)
    _overwrite(broken.directory / "limits", offset=0, data=b"nonsense")
    container = stub_container(shares=[share.directory, broken.directory])
    with container.client() as client:
        client.start(0)
        assert client.allocate(LIMIT) == 0
        assert client.allocate(1) == OUT_OF_MEMORY
    with container.client() as client:
        assert client.start(1).allocate(1) == OUT_OF_MEMORY


def test_a_share_that_was_repaired_works_without_a_restart(share: Share, stub_container: MakeContainer) -> None:
    """A broken share is looked at again when it is the reason of a refusal."""
    good = (share.directory / "limits").read_bytes()
    _overwrite(share.directory / "limits", offset=0, data=b"nonsense")
    with stub_container(shares=[share.directory]).client() as client:
        assert client.start().allocate(1) == OUT_OF_MEMORY
        _overwrite(share.directory / "limits", offset=0, data=good)
        assert client.allocate(LIMIT) == 0
        assert client.allocate(1) == OUT_OF_MEMORY


def test_nonsense_written_later_leaves_the_last_limit_in_force(share: Share, stub_container: MakeContainer) -> None:
    """A page that stops to be believable, or whose writer died at work, changes nothing."""
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.view() == (LIMIT, LIMIT, LIMIT)
        _overwrite(share.directory / "limits", offset=abi.LIMITS_MEMORY_LIMIT_BYTES_OFFSET, data=b"\xff" * 8)
        _overwrite(share.directory / "limits", offset=abi.LIMITS_SEQUENCE_OFFSET, data=b"\x02")
        assert client.allocate(LIMIT + 1) == OUT_OF_MEMORY
        _overwrite(share.directory / "limits", offset=abi.LIMITS_SEQUENCE_OFFSET, data=b"\x03")
        assert client.allocate(LIMIT + 1) == OUT_OF_MEMORY
        assert client.allocate(LIMIT) == 0


@pytest.mark.parametrize("size", [None, 0, abi.USAGE_SIZE - 1])
def test_a_usage_file_that_cannot_be_used_closes_its_device(
    size: int | None, share: Share, stub_container: MakeContainer
) -> None:
    """Without the shared counter nothing can be counted, hence nothing is given; views show a full share."""
    if size is None:
        (share.directory / "usage").unlink()
    else:
        os.truncate(share.directory / "usage", size)
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(1) == OUT_OF_MEMORY
        assert client.view() == (0, LIMIT, LIMIT)


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_in_the_usage_file_crash_nobody(seed: int, share: Share, stub_container: MakeContainer) -> None:
    """Whatever the file holds before and while programs run, they go on, and a fresh process is limited again."""
    chaos = random.Random(seed)  # noqa: S311 - reproducible nonsense is what is wanted
    usage = share.directory / "usage"
    _overwrite(usage, offset=0, data=chaos.randbytes(abi.USAGE_SIZE))
    if seed % 2:
        _overwrite(usage, offset=0, data=abi.USAGE_MAGIC.encode() + bytes([abi.ABI_VERSION, 0, 0, 0]))
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        for round_ in range(3):
            result, index, _ = client.ask(f"alloc sync {LIMIT // 2}")
            assert result in {"0", "2"}
            assert client.ask("view")[0] == "0"
            offset = chaos.randrange(8, abi.USAGE_SIZE - 4096)
            length = 4096 if round_ else abi.USAGE_HEADER_SIZE - 8
            _overwrite(usage, offset=8 if not round_ else offset, data=chaos.randbytes(length))
            if result == "0":
                assert client.ask(f"free {index}") == ["0"]
    _overwrite(usage, offset=0, data=bytes(abi.USAGE_SIZE))
    with stub_container(shares=[share.directory]).client() as client:
        assert client.start().allocate(LIMIT + 1) == OUT_OF_MEMORY
        assert client.allocate(LIMIT) == 0


def test_a_recount_left_by_a_dead_process_is_done_again(share: Share, stub_container: MakeContainer) -> None:
    """Nobody waits for the dead: the next process counts the living anew."""
    with stub_container(shares=[share.directory]).client() as first:
        assert first.start().allocate(100) == 0
        _overwrite(share.directory / "usage", offset=abi.USAGE_RECOUNTS_OFFSET, data=(7).to_bytes(4, "little"))
        _overwrite(share.directory / "usage", offset=abi.USAGE_USED_BYTES_OFFSET, data=(999).to_bytes(8, "little"))
        with stub_container(shares=[share.directory]).client() as second:
            assert second.start().allocate(LIMIT - 100) == 0
            assert second.allocate(1) == OUT_OF_MEMORY
            assert share.used_bytes == LIMIT


def test_a_counter_that_was_tampered_with_heals_before_a_refusal(share: Share, stub_container: MakeContainer) -> None:
    """The sum over the living slots is what counts when something would be refused."""
    with stub_container(shares=[share.directory]).client() as client:
        assert client.start().allocate(100) == 0
        _overwrite(share.directory / "usage", offset=abi.USAGE_USED_BYTES_OFFSET, data=b"\xff" * 8)
        assert client.allocate(LIMIT - 100) == 0
        assert share.used_bytes == LIMIT
