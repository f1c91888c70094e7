"""What does not fit in a share becomes managed memory where the share allows it, and not a byte more than it allows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Share, make_share

UUID = "GPU-11111111-1111-1111-1111-111111111111"
LIMIT = 1 << 20

pytestmark = pytest.mark.native
MakeContainer = Callable[..., Container]


@pytest.fixture
def share(tmp_path: Path) -> Share:
    """A share that may have as much again with the host."""
    return make_share(tmp_path, "share", uuid=UUID, memory_bytes=LIMIT, managed_bytes=LIMIT)


@pytest.mark.parametrize("kind", ["sync", "managed", "pitched", "async", "async_ptsz", "pool", "pool_ptsz"])
def test_what_does_not_fit_lives_with_the_host(kind: str, stub_container: MakeContainer, share: Share) -> None:
    """The card holds no byte above the share, the rest is counted apart, and freeing works as for any other memory."""
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(LIMIT, kind=kind) == 0
        assert client.allocate(LIMIT, kind=kind) == 0
        assert (share.used_bytes, share.managed_bytes) == (LIMIT, LIMIT)
        assert client.ask("held 0") == [str(LIMIT)]
        assert client.allocate(1024, kind=kind) == OUT_OF_MEMORY
        assert share.refused_total == 1
        assert client.ask("free 1") == ["0"]
        assert (share.used_bytes, share.managed_bytes) == (LIMIT, 0)
        assert client.ask("free 0") == ["0"]
        assert share.used_bytes == 0


def test_the_view_is_what_a_program_can_allocate(stub_container: MakeContainer, share: Share) -> None:
    """Total is the share of the card and what may lie beyond it; free follows both."""
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.view() == (2 * LIMIT, 2 * LIMIT, 2 * LIMIT)
        assert client.allocate(LIMIT // 2) == 0
        assert client.allocate(LIMIT) == 0
        assert client.view() == (LIMIT // 2, 2 * LIMIT, 2 * LIMIT)


def test_processes_share_what_lies_beyond(stub_container: MakeContainer, share: Share) -> None:
    """The limit of managed memory holds for all processes together, and the dead give theirs back."""
    container = stub_container(shares=[share.directory])
    with container.client() as first, container.client() as second:
        assert first.start().allocate(LIMIT) == 0
        assert first.allocate(LIMIT) == 0
        assert second.start().allocate(1) == OUT_OF_MEMORY
        first.kill()
        assert second.allocate(LIMIT) == 0
        assert second.allocate(LIMIT) == 0
        assert (share.used_bytes, share.managed_bytes) == (LIMIT, LIMIT)


def test_memory_that_cannot_stay_with_the_host_is_refused(stub_container: MakeContainer, share: Share) -> None:
    """A device that has to move all managed memory to itself before a kernel runs gets none beyond the share."""
    with stub_container(shares=[share.directory], environment={"STUB_PASCAL": "1"}).client() as client:
        client.start()
        assert client.allocate(LIMIT) == 0
        assert client.allocate(1) == OUT_OF_MEMORY
        assert share.managed_bytes == 0


def test_the_end_of_a_context_ends_what_lies_beyond(stub_container: MakeContainer, share: Share) -> None:
    """Managed memory belongs to the context that it was allocated in."""
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.allocate(LIMIT) == 0
        assert client.allocate(LIMIT) == 0
        assert client.ask("reset") == ["0"]
        assert (share.used_bytes, share.managed_bytes) == (0, 0)
