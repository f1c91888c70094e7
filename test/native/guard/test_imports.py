"""Memory that processes hand to each other is charged once, whoever of its holders dies first.

The observer is the simulated card's own accounting: shared memory counts once there, until the last that holds it is gone.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Client, Container, Node, Programs, Share, make_share, wait_until

from hami_dra._gen import abi

LIMIT = 1 << 30
PIECE = 384 << 20
LARGE = 640 << 20
STEP = 64 << 20
CONTEXT = 4 << 20
ROUTES = ["ipc", "vmm", "handle", "external"]
MAPPED = ["ipc", "vmm", "external"]

pytestmark = pytest.mark.native


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of 1 GiB of the card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


@pytest.fixture
def other(node: Node, tmp_path: Path) -> Share:
    """Another share of the same card."""
    return make_share(tmp_path / "more", "other", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def abroad(node: Node, programs: Programs, other: Share) -> Container:
    """A container with the other share."""
    return Container(programs=programs, driver=node.environment, shares=[other.directory])


def _export(client: Client, route: str, bytes_: int = PIECE) -> str:
    assert client.start().ask(f"take {route} {bytes_}") == ["0"]
    (word,) = client.ask(f"offer {route}")
    return word


def _hold(client: Client, route: str, word: str, bytes_: int = PIECE) -> int:
    return int(client.ask(f"hold {route} {bytes_} {word}")[0])


def _fill(client: Client) -> int:
    """Allocate until it is refused; how much was granted."""
    granted = 0
    while client.allocate(STEP) == 0:
        granted += STEP
    return granted


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("end", ["killed", "frees"])
def test_memory_is_charged_once_while_anybody_holds_it(
    end: str, route: str, container: Container, node: Node, share: Share
) -> None:
    """A third process gets what is left of the share, the same before and after its exporter is done with the memory."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert share.used_bytes == PIECE
        assert _hold(importer.start(), route, word) == 0
        assert share.used_bytes == node.cards()[0].used_bytes == PIECE
        with container.client("sharer") as third:
            assert _fill(third.start()) == LIMIT - PIECE - (LIMIT - PIECE) % STEP
            if end == "killed":
                exporter.kill()
            else:
                assert exporter.ask(f"give {route}") == ["0"]
            assert third.allocate(STEP) == OUT_OF_MEMORY
            assert node.cards()[0].used_bytes == share.used_bytes == LIMIT
            assert third.view()[0] == importer.view()[0] == 0
            assert importer.ask(f"leave {route} {PIECE}") == ["0"]
            assert share.used_bytes == LIMIT - PIECE
            assert _fill(third) == PIECE
            assert node.cards()[0].peak_bytes == share.peak_bytes == LIMIT


@pytest.mark.parametrize("route", ROUTES)
def test_all_comes_back_when_importer_and_exporter_were_killed(
    route: str, container: Container, node: Node, share: Share
) -> None:
    """Whoever dies first, the whole share is there for the next one."""
    for first in (0, 1):
        with container.client("sharer") as exporter, container.client("sharer") as importer:
            word = _export(exporter, route)
            assert _hold(importer.start(), route, word) == 0
            for client in (exporter, importer)[:: 1 if first == 0 else -1]:
                client.kill()
        wait_until(lambda: node.cards()[0].used_bytes == 0, what="every process is gone")
        with container.client("sharer") as last:
            assert _fill(last.start()) == LIMIT
            assert share.used_bytes == LIMIT


@pytest.mark.parametrize("route", ROUTES)
def test_memory_of_the_own_share_needs_no_room_to_be_imported(route: str, container: Container, share: Share) -> None:
    """More than half of the share can be handed on, to as many as want it, and by importers too."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route, LARGE)
        assert _hold(importer.start(), route, word, LARGE) == 0
        if route == "handle":
            (word,) = importer.ask("offer handle")
        with container.client("sharer") as third:
            assert _hold(third.start(), route, word, LARGE) == 0
            assert share.used_bytes == LARGE
            exporter.kill()
            assert importer.ask(f"leave {route} {LARGE}") == ["0"]
            assert share.used_bytes == LARGE
            assert third.view()[0] == LIMIT - LARGE
            assert third.ask(f"leave {route} {LARGE}") == ["0"]
            assert third.view()[0] == LIMIT


@pytest.mark.parametrize("route", ROUTES)
def test_an_import_from_another_share_is_charged_to_its_importers_once(
    route: str, container: Container, abroad: Container, share: Share, other: Share
) -> None:
    """Two processes of one share that import the same memory pay for it together, from the import on."""
    with abroad.client("sharer") as exporter, container.client("sharer") as first:
        word = _export(exporter, route)
        assert _hold(first.start(), route, word) == 0
        with container.client("sharer") as second:
            assert _hold(second.start(), route, word) == 0
            assert share.used_bytes == other.used_bytes == PIECE
            first.kill()
            assert _fill(second) == LIMIT - PIECE - (LIMIT - PIECE) % STEP


@pytest.mark.parametrize("route", ROUTES)
def test_an_import_from_nowhere_is_charged_when_it_is_imported(
    route: str, container: Container, programs: Programs, node: Node, share: Share
) -> None:
    """The exporter has no guard, so only the driver can tell how much it is; all importers of the share pay once."""
    free = Container(programs=programs, driver=node.environment, guarded=False)
    with (
        free.client("sharer") as exporter,
        container.client("sharer") as importer,
        container.client("sharer") as second,
    ):
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert share.used_bytes == PIECE
        assert _hold(second.start(), route, word) == 0
        assert importer.ask(f"leave {route} {PIECE}") == ["0"]
        assert share.used_bytes == PIECE
        assert second.ask(f"leave {route} {PIECE}") == ["0"]
        assert share.used_bytes == 0


@pytest.mark.parametrize("route", ROUTES)
def test_an_import_from_another_share_that_does_not_fit_is_refused(
    route: str, container: Container, abroad: Container, node: Node, share: Share
) -> None:
    """The importer is left without it, so that it does not outlive its exporter."""
    with abroad.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route, LARGE)
        assert importer.start().allocate(LARGE) == 0
        assert _hold(importer, route, word, LARGE) == OUT_OF_MEMORY
        assert share.used_bytes == LARGE
        assert share.refused_total == 1
        exporter.kill()
        wait_until(lambda: node.cards()[0].used_bytes == LARGE, what="nobody holds it")


def test_a_handle_that_is_opened_twice_is_held_until_the_last_close(container: Container, share: Share) -> None:
    """The driver gives the same address again."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, "ipc")
        importer.start()
        assert [_hold(importer, "ipc", word) for _ in range(2)] == [0, 0]
        assert exporter.ask("give ipc") == ["0"]
        assert importer.ask("leave ipc") == ["0"]
        assert share.used_bytes == PIECE
        assert importer.ask("leave ipc") == ["0"]
        assert share.used_bytes == 0
        assert importer.ask("leave ipc") != ["0"]
        assert share.used_bytes == 0


@pytest.mark.parametrize("route", ROUTES)
def test_the_end_of_a_context_is_that_of_its_imports(
    route: str, container: Container, node: Node, share: Share
) -> None:
    """What was opened or mapped dies with its context and is let go of; physical memory belongs to no context."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert importer.ask("reset") == ["0"]
        assert exporter.ask(f"give {route}") == ["0"]
        left = PIECE if route in {"vmm", "handle"} else 0
        assert share.used_bytes == node.cards()[0].used_bytes == left


def test_the_end_of_a_context_is_that_of_its_exports(container: Container, share: Share) -> None:
    """The importer goes on paying for what it holds."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, "ipc")
        assert _hold(importer.start(), "ipc", word) == 0
        assert exporter.ask("reset") == ["0"]
        assert share.used_bytes == PIECE
        assert importer.ask("leave ipc") == ["0"]
        assert share.used_bytes == 0


@pytest.mark.parametrize("route", ROUTES)
def test_shared_memory_is_shown_with_one_of_its_holders(route: str, container: Container) -> None:
    """NVML's list puts it down to the exporter, and after that to who still holds it, as the driver does."""
    with container.client("sharer") as exporter, container.client("sharer") as importer, container.client() as third:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        shown = dict(third.start().processes())
        assert (shown[exporter.process.pid], shown[importer.process.pid]) == (PIECE, 0)
        exporter.kill()
        assert dict(third.processes()).get(importer.process.pid) == PIECE


@pytest.mark.parametrize("route", ROUTES)
def test_in_a_usage_file_of_before_each_holder_is_charged_in_full(
    route: str, node: Node, programs: Programs, tmp_path: Path
) -> None:
    """It has no room for credits: too much is safer than too little."""
    uuid = node.cards()[0].uuid
    share = make_share(tmp_path, "old", uuid=uuid, memory_bytes=LIMIT, usage_size=abi.USAGE_SIZE)
    container = Container(programs=programs, driver=node.environment, shares=[share.directory])
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert share.used_bytes == 2 * PIECE
        exporter.kill()
        assert importer.ask(f"leave {route} {PIECE}") == ["0"]
        assert _fill(importer) == LIMIT


def test_a_pointer_of_anothers_pool_is_charged_in_full(container: Container, node: Node, share: Share) -> None:
    """The pool goes on paying for what it keeps, and the importer pays beside it."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, "pool")
        assert _hold(importer.start(), "pool", word) == 0
        assert share.used_bytes == 2 * PIECE
        assert importer.allocate(LIMIT - 2 * PIECE + 1) == OUT_OF_MEMORY
        exporter.kill()
        assert importer.allocate(LIMIT - PIECE) == 0
        assert importer.ask(f"leave pool {PIECE}") == ["0"]
        assert share.used_bytes == node.cards()[0].used_bytes == LIMIT - PIECE


def test_a_pointer_of_anothers_pool_that_does_not_fit_is_refused(container: Container, share: Share) -> None:
    """And is not charged."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, "pool", LARGE)
        assert _hold(importer.start(), "pool", word, LARGE) == OUT_OF_MEMORY
        assert share.used_bytes == LARGE


@pytest.mark.parametrize("route", MAPPED)
def test_what_contexts_take_stays_charged_beside_imports(
    route: str, make_node: Callable[..., Node], programs: Programs, tmp_path: Path
) -> None:
    """The driver puts shared memory down to its exporter: its figure for the importer says nothing about contexts."""
    node = make_node()
    words = ("set", "--root", str(node.root), "--context-overhead", str(CONTEXT))
    subprocess.run([node.simctl, *words], check=True, capture_output=True)
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)
    container = Container(programs=programs, driver=node.environment, shares=[share.directory])
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert importer.ask("context") == exporter.ask("context") == ["0"]
        assert share.used_bytes == node.cards()[0].used_bytes == PIECE + 2 * CONTEXT
        exporter.kill()
        assert importer.ask("context") == ["0"]
        with container.client("sharer") as third:
            third.start()
            assert share.used_bytes == node.cards()[0].used_bytes == PIECE + 2 * CONTEXT
            assert importer.ask(f"leave {route} {PIECE}") == ["0"]
            assert share.used_bytes == node.cards()[0].used_bytes == 2 * CONTEXT
