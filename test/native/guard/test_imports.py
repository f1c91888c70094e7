"""Memory that a process imports is charged to it: who exported it may die first, and the share holds no byte too much.

The observer is the simulated card's own accounting: shared memory counts once there, until the last that holds it is gone.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Client, Container, Node, Programs, Share, make_share, wait_until

LIMIT = 1 << 30
PIECE = 384 << 20
STEP = 64 << 20
CONTEXT = 4 << 20
ROUTES = ["ipc", "vmm", "external"]

pytestmark = pytest.mark.native


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of 1 GiB of the card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


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
def test_an_import_counts_when_its_exporter_was_killed(
    route: str, container: Container, node: Node, share: Share
) -> None:
    """A third process gets what is left of the share and no byte of what the importer holds, until that lets go."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert share.used_bytes == 2 * PIECE  # both hold it; the card has it once
        assert node.cards()[0].used_bytes == PIECE
        exporter.kill()
        with container.client("sharer") as third:
            assert _fill(third.start()) == LIMIT - PIECE
            assert node.cards()[0].used_bytes == share.used_bytes == LIMIT
            assert third.view()[0] == importer.view()[0] == 0
            assert importer.ask(f"leave {route} {PIECE}") == ["0"]
            assert share.used_bytes == node.cards()[0].used_bytes == LIMIT - PIECE
            assert _fill(third) == PIECE
            assert node.cards()[0].peak_bytes == LIMIT


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
def test_an_import_that_does_not_fit_is_refused(route: str, container: Container, node: Node, share: Share) -> None:
    """The importer is left without it, so that it does not outlive its exporter."""
    large = 640 << 20
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route, large)
        assert _hold(importer.start(), route, word, large) == OUT_OF_MEMORY
        assert share.used_bytes == large
        assert share.refused_total == 1
        assert importer.view()[0] == LIMIT - large
        exporter.kill()
        wait_until(lambda: node.cards()[0].used_bytes == 0, what="nobody holds it")
        assert _fill(importer) == LIMIT


def test_a_handle_that_is_opened_twice_is_charged_once(container: Container, share: Share) -> None:
    """The driver gives the same address again, and the charge goes with the last close."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, "ipc")
        importer.start()
        assert [_hold(importer, "ipc", word) for _ in range(2)] == [0, 0]
        assert share.used_bytes == 2 * PIECE
        assert importer.ask("leave ipc") == ["0"]
        assert share.used_bytes == 2 * PIECE
        assert importer.ask("leave ipc") == ["0"]
        assert share.used_bytes == PIECE
        assert importer.ask("leave ipc") != ["0"]
        assert share.used_bytes == PIECE


@pytest.mark.parametrize("route", ROUTES)
def test_the_end_of_a_context_is_that_of_its_imports(
    route: str, container: Container, node: Node, share: Share
) -> None:
    """What was opened or mapped dies with its context and gives its charge back; physical memory belongs to no context."""
    with container.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert importer.ask("reset") == ["0"]
        left = PIECE if route == "vmm" else 0
        assert share.used_bytes == PIECE + left
        exporter.kill()
        wait_until(lambda: node.cards()[0].used_bytes == left, what="the exporter is gone")


@pytest.mark.parametrize("route", ROUTES)
def test_an_import_from_another_share_is_charged_to_the_importers(
    route: str, node: Node, programs: Programs, tmp_path: Path, container: Container, share: Share
) -> None:
    """What the other share's process exported counts in both shares."""
    other = make_share(tmp_path / "more", "other", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)
    abroad = Container(programs=programs, driver=node.environment, shares=[other.directory])
    with abroad.client("sharer") as exporter, container.client("sharer") as importer:
        word = _export(exporter, route)
        assert _hold(importer.start(), route, word) == 0
        assert share.used_bytes == other.used_bytes == PIECE


@pytest.mark.parametrize("route", ROUTES)
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
        assert importer.ask("context") == ["0"]
        assert share.used_bytes == 2 * PIECE + 2 * CONTEXT
        exporter.kill()
        assert importer.ask("context") == ["0"]
        with container.client("sharer") as third:
            third.start()
            assert share.used_bytes == node.cards()[0].used_bytes == PIECE + 2 * CONTEXT
            assert importer.ask(f"leave {route} {PIECE}") == ["0"]
            assert share.used_bytes == node.cards()[0].used_bytes == 2 * CONTEXT
