"""What the driver takes by itself is part of the share: contexts count, and one that does not fit is refused."""

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, Share, make_share, wait_until

MIB = 1 << 20
LIMIT = 64 * MIB
CONTEXT = 10 * MIB

pytestmark = pytest.mark.native


@pytest.fixture(params=["off", "on"], ids=["own-ids", "host-ids"])
def node(make_node: Callable[..., Node], request: pytest.FixtureRequest) -> Node:
    """A card whose contexts take memory; its driver lists processes by their own ids or by the host's."""
    node = make_node()
    words = ("set", "--root", str(node.root), "--context-overhead", str(CONTEXT), "--foreign-ids", request.param)
    subprocess.run([node.simctl, *words], check=True, capture_output=True)
    return node


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of the only card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


def test_a_context_is_charged_while_it_lives(container: Container, node: Node, share: Share) -> None:
    """What the driver took for the context is in the share's books, in all views, and gone with the context."""
    with container.client() as client:
        client.start()
        assert share.used_bytes == CONTEXT == node.cards()[0].used_bytes
        assert client.view() == (LIMIT - CONTEXT, LIMIT, LIMIT)
        assert client.processes() == [(client.process.pid, CONTEXT)]
        assert client.allocate(LIMIT - CONTEXT + 1) == OUT_OF_MEMORY
        assert client.allocate(LIMIT - CONTEXT) == 0
        assert share.overhead_bytes == CONTEXT
        assert client.ask("reset") == ["0"]
        assert share.used_bytes == 0 == node.cards()[0].used_bytes


def test_a_context_that_does_not_fit_is_refused(container: Container, node: Node, share: Share) -> None:
    """Its program gets CUDA_ERROR_OUT_OF_MEMORY, and the card never held it: the share knows what a context takes."""
    with container.client() as first, container.client() as second:
        assert first.start().allocate(LIMIT - 2 * CONTEXT + 1) == 0
        assert second.ask("open") == ["1"]
        assert second.ask("init 0") == [str(OUT_OF_MEMORY)]
        assert share.used_bytes == node.cards()[0].used_bytes == node.cards()[0].peak_bytes == LIMIT - CONTEXT + 1
        assert share.refused_total == 1
        assert first.ask("free 0") == ["0"]
        assert second.ask("init 0") == ["0"]


def test_a_share_smaller_than_a_context_says_so(node: Node, programs: Programs, tmp_path: Path) -> None:
    """The first context of a share is measured after it is made, and goes again when it does not fit."""
    share = make_share(tmp_path, "small", uuid=node.cards()[0].uuid, memory_bytes=CONTEXT - 1)
    with Container(programs=programs, driver=node.environment, shares=[share.directory]).client() as client:
        assert client.ask("open") == ["1"]
        assert client.ask("init 0") == [str(OUT_OF_MEMORY)]
        assert share.used_bytes == 0 == node.cards()[0].used_bytes


def test_processes_that_start_together_stay_within_the_limit(container: Container, node: Node, share: Share) -> None:
    """Sixteen at once: six contexts fit, the others are refused, and the card never held a byte more."""
    with ExitStack() as stack:
        clients = [stack.enter_context(container.client()) for _ in range(16)]
        for client in clients:
            client.tell("open")
            client.tell("init 0")
        answers = [(client.read(), client.read())[1][0] for client in clients]
        assert sorted(answers) == ["0"] * 6 + [str(OUT_OF_MEMORY)] * 10
        assert node.cards()[0].peak_bytes <= LIMIT
        assert share.used_bytes == 6 * CONTEXT
        for client in clients:
            client.kill()
        wait_until(lambda: node.cards()[0].used_bytes == 0, what="every process is gone")
        last = stack.enter_context(container.client()).start()
        assert last.allocate(LIMIT - CONTEXT) == 0


def test_a_neighbour_with_the_same_pid_is_somebody_else(node: Node, programs: Programs, tmp_path: Path) -> None:
    """In containers everybody is process 1: what the one of the neighbour's container holds is none of ours."""
    uuid = node.cards()[0].uuid
    shares = [make_share(tmp_path, name, uuid=uuid, memory_bytes=LIMIT) for name in ("first", "second")]
    containers = [
        Container(programs=programs, driver=node.environment, shares=[share.directory], own_pids=True)
        for share in shares
    ]
    with containers[0].client() as first, containers[1].client() as second:
        assert first.start().allocate(LIMIT - CONTEXT) == 0
        second.start()
        assert [share.used_bytes for share in shares] == [LIMIT, CONTEXT]
        assert second.allocate(LIMIT - CONTEXT) == 0
