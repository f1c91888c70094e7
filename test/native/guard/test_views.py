"""Programs see their share, and the same share through CUDA and NVML, whatever the order of devices."""

from collections.abc import Callable
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share

GIB = 1 << 30

pytestmark = pytest.mark.native


def test_cuda_and_nvml_tell_one_story(node: Node, programs: Programs, tmp_path: Path) -> None:
    """Total is the limit, used is what the share's processes hold, free is the rest: by four calls of two libraries."""
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=16 * GIB)
    container = Container(programs=programs, driver=node.environment, shares=[share.directory])
    with container.client() as client, container.client() as watcher:
        client.start()
        assert client.allocate(3 * GIB) == 0
        assert client.view() == (13 * GIB, 16 * GIB, 16 * GIB)
        assert watcher.ask("open") == ["1"]
        for asked in (client, watcher):
            answer = [int(word) for word in asked.ask("nvml 0")]
            assert answer == [0, 16 * GIB, 13 * GIB, 3 * GIB, 16 * GIB, 13 * GIB, 3 * GIB, 0]


def test_out_parameters_may_be_null(stub_container: Callable[..., Container], tmp_path: Path) -> None:
    """NULL pointers given to cuMemGetInfo are the driver's to judge; the guard does not touch them."""
    share = make_share(tmp_path, "s", uuid="GPU-11111111-1111-1111-1111-111111111111", memory_bytes=1000)
    with stub_container(shares=[share.directory]).client() as client:
        client.start()
        assert client.ask("null-view") == ["0"]


def test_a_share_larger_than_the_card_shows_the_card(node: Node, programs: Programs, tmp_path: Path) -> None:
    """Total is never more than the physical memory, free never more than the driver's."""
    with Container(programs=programs, driver=node.environment).client() as plain:
        free, total, _ = plain.start().view()
        share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=1 << 50)
        container = Container(programs=programs, driver=node.environment, shares=[share.directory])
        with container.client() as client:
            client.start()
            assert client.view()[1:] == (total, total)
            assert client.view()[0] <= free


def test_a_share_without_a_memory_limit_shows_the_card(node: Node, programs: Programs, tmp_path: Path) -> None:
    """Limit 0 is no limit: views are the driver's own, use is still counted."""
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=0)
    with Container(programs=programs, driver=node.environment, shares=[share.directory]).client() as client:
        client.start()
        _, total, _ = client.view()
        assert total > 70 * GIB
        assert client.allocate(GIB) == 0
        assert share.used_bytes == GIB


@pytest.mark.parametrize("visible", ["0,1", "1,0", "uuid-reversed"])
def test_two_cards_with_different_limits_are_told_apart_by_uuid(
    visible: str, make_node: Callable[..., Node], programs: Programs, tmp_path: Path
) -> None:
    """Whatever CUDA_VISIBLE_DEVICES makes of the order, each card has its own limit."""
    node = make_node(cards=2)
    first, second = (card.uuid for card in node.cards())
    shares = [
        make_share(tmp_path, "a", uuid=second, memory_bytes=2 * GIB),
        make_share(tmp_path, "b", uuid=first, memory_bytes=GIB),
    ]
    order = f"{second},{first}" if visible == "uuid-reversed" else visible
    container = Container(
        programs=programs,
        driver=node.environment,
        shares=[share.directory for share in shares],
        environment={"CUDA_VISIBLE_DEVICES": order},
    )
    limits = (GIB, 2 * GIB) if visible == "0,1" else (2 * GIB, GIB)
    for ordinal, limit in enumerate(limits):
        with container.client() as client:
            client.start(ordinal)
            assert client.allocate(limit + 1) == OUT_OF_MEMORY
            assert client.allocate(limit) == 0
            assert client.view()[:2] == (0, limit)
            assert [int(client.ask(f"nvml {index}")[1]) for index in (0, 1)] == [GIB, 2 * GIB]


def test_a_card_without_a_share_is_left_alone(
    make_node: Callable[..., Node], programs: Programs, tmp_path: Path
) -> None:
    """Only the cards that a share names are limited."""
    node = make_node(cards=2)
    share = make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=GIB)
    with Container(programs=programs, driver=node.environment, shares=[share.directory]).client() as client:
        client.start(1)
        assert client.allocate(10 * GIB) == 0
        assert client.view()[1] > 70 * GIB
        assert share.used_bytes == 0


def test_two_shares_of_one_card_add_up(node: Node, programs: Programs, tmp_path: Path) -> None:
    """An allocation is charged to the first share that has room for it; views are the sum."""
    uuid = node.cards()[0].uuid
    shares = [make_share(tmp_path, name, uuid=uuid, memory_bytes=GIB) for name in ("a", "b")]
    container = Container(programs=programs, driver=node.environment, shares=[share.directory for share in shares])
    with container.client() as client:
        client.start()
        assert client.view()[:2] == (2 * GIB, 2 * GIB)
        assert client.allocate(GIB + 1) == OUT_OF_MEMORY
        assert client.allocate(GIB) == 0
        assert client.allocate(GIB) == 0
        assert client.allocate(1) == OUT_OF_MEMORY
        assert [share.used_bytes for share in shares] == [GIB, GIB]
        assert client.view()[:2] == (0, 2 * GIB)


def test_processes_are_those_of_the_share(node: Node, programs: Programs, tmp_path: Path) -> None:
    """Who is seen on the card, and with how much, is who shares the limit: by pid as the program itself sees pids."""
    uuid = node.cards()[0].uuid
    ours, theirs = (make_share(tmp_path, name, uuid=uuid, memory_bytes=GIB) for name in ("ours", "theirs"))
    inside, outside = (
        Container(programs=programs, driver=node.environment, shares=[s.directory]) for s in (ours, theirs)
    )
    with inside.client() as first, inside.client() as second, outside.client() as neighbour:
        assert neighbour.start().allocate(GIB // 2) == 0
        assert first.start().processes() == [(first.process.pid, 0)]
        assert first.allocate(1000) == 0
        assert second.start().allocate(2000) == 0
        seen = [(first.process.pid, 1000), (second.process.pid, 2000)]
        assert sorted(first.processes()) == sorted(second.processes()) == sorted(seen)
        assert neighbour.processes() == [(neighbour.process.pid, GIB // 2)]
        second.kill()
        assert first.processes() == seen[:1]


def test_processes_on_a_card_without_a_share_are_the_drivers(node: Node, programs: Programs) -> None:
    """Without shares the card's processes are what the driver says."""
    container = Container(programs=programs, driver=node.environment)
    with container.client() as first, container.client() as second:
        assert first.start().allocate(1000) == 0
        second.start()
        assert sorted(pid for pid, _ in second.processes()) == sorted([first.process.pid, second.process.pid])
