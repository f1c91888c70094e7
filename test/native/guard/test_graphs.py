"""Memory of CUDA graphs counts from the launch on, and no graph gets a share above its limit."""

from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Client, Container, Node, Programs, Share, make_share

MIB = 1 << 20
LIMIT = 64 * MIB
WAYS = ("capture", "pool", "nodes", "node", "params", "upload", "child")

pytestmark = pytest.mark.native


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of the only card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


def _result(client: Client, command: str) -> int:
    return int(client.ask(command)[0])


def _made(client: Client, way: str, bytes_: int) -> int:
    """The number of a new graph."""
    result, number = map(int, client.ask(f"made {way} {bytes_}"))
    assert result == 0
    return number


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_is_charged_when_it_is_launched(way: str, container: Container, share: Share, node: Node) -> None:
    """Not before, once however often it runs, until the driver is made to give its memory back."""
    with container.client("graphs") as client:
        client.start()
        graph = _made(client, way, 48 * MIB)
        assert share.used_bytes == node.cards()[0].used_bytes == 0
        for command in ("launch", "launch", "upload", "elsewhere", "launch"):
            assert _result(client, f"{command} {graph}") == 0
            assert share.used_bytes == node.cards()[0].used_bytes == 48 * MIB
        assert _result(client, "sync") == _result(client, f"destroy {graph}") == 0
        assert share.used_bytes == 48 * MIB
        assert _result(client, "trim") == 0
        assert share.used_bytes == node.cards()[0].used_bytes == 0
        assert share.refused_total == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_that_does_not_fit_is_refused(way: str, container: Container, share: Share, node: Node) -> None:
    """When it would take memory, without a byte taken; the neighbour keeps what it has and gets what is left."""
    with container.client("graphs") as client, container.client() as neighbour:
        client.start()
        assert neighbour.start().allocate(32 * MIB) == 0
        if way == "upload":
            assert _result(client, f"made {way} {34 * MIB}") == OUT_OF_MEMORY
        else:
            graph = _made(client, way, 34 * MIB)
            for command in ("launch", "elsewhere", "upload"):
                assert _result(client, f"{command} {graph}") == OUT_OF_MEMORY
        assert share.used_bytes == node.cards()[0].peak_bytes == 32 * MIB
        assert neighbour.allocate(32 * MIB) == 0
        assert share.refused_total > 0
        assert neighbour.ask("free 1") == ["0"]
        assert _result(client, f"launch {_made(client, way, 32 * MIB)}") == 0
        assert node.cards()[0].peak_bytes == LIMIT


@pytest.mark.parametrize("way", WAYS)
def test_what_outlives_a_launch_stays_charged(way: str, container: Container, share: Share, node: Node) -> None:
    """Two graphs cannot both leave more than half behind; when the first one's is freed, the second takes its place."""
    with container.client("graphs") as client:
        client.start()
        first = _made(client, f"{way}-kept", 40 * MIB)
        assert _result(client, f"launch {first}") == 0
        second = _made(client, "nodes-kept", 40 * MIB)
        assert _result(client, f"launch {second}") == OUT_OF_MEMORY
        assert _result(client, "trim") == 0
        assert share.used_bytes == node.cards()[0].used_bytes == 40 * MIB
        assert _result(client, f"free {first}") == 0
        assert _result(client, f"launch {second}") == 0
        assert _result(client, f"launch {first}") == OUT_OF_MEMORY
        assert node.cards()[0].peak_bytes <= LIMIT
        assert share.peak_bytes <= LIMIT


def test_graphs_that_free_what_they_allocate_share_memory(container: Container, share: Share, node: Node) -> None:
    """Two that fit only one after the other run in turn for ever, and other memory takes what they leave."""
    with container.client("graphs") as client:
        client.start()
        graphs = [_made(client, way, 40 * MIB) for way in ("capture", "nodes")]
        for graph in graphs * 3:
            assert _result(client, f"launch {graph}") == 0
        assert _result(client, f"alloc sync {LIMIT}") == 0
        assert share.used_bytes == node.cards()[0].used_bytes == LIMIT
        assert _result(client, f"launch {graphs[0]}") == OUT_OF_MEMORY
        assert node.cards()[0].peak_bytes == LIMIT


def test_a_graph_put_into_another_counts_with_it(container: Container, node: Node) -> None:
    """A child graph that replaces a smaller one does not come in unseen."""
    with container.client("graphs") as client:
        client.start()
        small = _made(client, "child-kept", 2 * MIB)
        large = _made(client, "nodes-kept", LIMIT + 2 * MIB)
        assert _result(client, f"into {large} {small}") == 0
        assert _result(client, f"launch {small}") == OUT_OF_MEMORY
        assert node.cards()[0].used_bytes == 0


def test_memory_of_a_killed_process_graphs_is_back_at_once(container: Container, share: Share, node: Node) -> None:
    """After SIGKILL a neighbour launches what did not fit before."""
    with container.client("graphs") as victim, container.client("graphs") as survivor:
        victim.start()
        survivor.start()
        assert _result(victim, f"launch {_made(victim, 'capture-kept', 40 * MIB)}") == 0
        graph = _made(survivor, "nodes", 40 * MIB)
        assert _result(survivor, f"launch {graph}") == OUT_OF_MEMORY
        victim.kill()
        assert _result(survivor, f"launch {graph}") == 0
        assert share.used_bytes == node.cards()[0].used_bytes == 40 * MIB
        assert node.cards()[0].peak_bytes <= LIMIT
