"""Limits that the node plugin changes while programs run, through the very code that the node plugin uses."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share

from hami_dra._gen import abi
from hami_dra.core.ids import ClaimUid
from hami_dra.core.limits import Limits, decode
from hami_dra.host.live_shares import LiveShares

pytestmark = pytest.mark.native

UID = ClaimUid("claim-uid")
MIB = 1 << 20
LIMIT = 100 * MIB


class Live:
    """One share of a node's only card, a container with it, and the node plugin's hand on its limits."""

    def __init__(self, tmp_path: Path, programs: Programs, node: Node) -> None:
        claims = tmp_path / "claims"
        self.share = make_share(claims / UID, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)
        self.container = Container(programs=programs, driver=node.environment, shares=[self.share.directory])
        self.files = LiveShares(claims, lock=tmp_path / "limits.lock")

    @property
    def limits(self) -> Limits:
        """What the page says now."""
        return decode((self.share.directory / "limits").read_bytes())

    def set_memory(self, bytes_: int) -> None:
        """Change the memory limit, as the node plugin does."""
        assert self.files.change(UID, replace(self.limits, memory_limit_bytes=bytes_))

    def set_sequence(self, value: int) -> None:
        """As a writer leaves it that is at work, or that was killed there."""
        with (self.share.directory / "limits").open("r+b") as file:
            os.pwrite(file.fileno(), value.to_bytes(4, "little"), abi.LIMITS_SEQUENCE_OFFSET)


@pytest.fixture
def live(tmp_path: Path, programs: Programs, node: Node) -> Live:
    """A share whose limits can be changed."""
    return Live(tmp_path, programs, node)


def test_a_lowered_limit_refuses_and_frees_nothing(live: Live) -> None:
    """From the change on, the next allocation of a running program is refused; what it holds it keeps, until it frees enough."""
    with live.container.client() as client:
        held = client.start().ask(f"alloc sync {60 * MIB}")
        assert held[0] == "0"
        before = live.share.used_bytes
        live.set_memory(50 * MIB)
        assert client.allocate(1) == OUT_OF_MEMORY
        assert client.allocate(40 * MIB) == OUT_OF_MEMORY
        assert live.share.used_bytes == before >= 60 * MIB
        assert client.view() == (0, 50 * MIB, 50 * MIB)
        assert client.ask(f"free {held[1]}") == ["0"]
        assert client.allocate(60 * MIB) == OUT_OF_MEMORY
        assert client.allocate(30 * MIB) == 0


def test_a_raised_limit_admits(live: Live) -> None:
    """A program that was refused is admitted by its next try, without a restart, and sees the new total."""
    with live.container.client() as client:
        assert client.start().allocate(200 * MIB) == OUT_OF_MEMORY
        live.set_memory(400 * MIB)
        assert client.allocate(200 * MIB) == 0
        assert client.view()[1:] == (400 * MIB, 400 * MIB)
        assert client.allocate(300 * MIB) == OUT_OF_MEMORY


def test_all_processes_of_a_share_follow(live: Live) -> None:
    """The page is one for the whole share."""
    with live.container.client() as first, live.container.client() as second:
        assert first.start().allocate(10 * MIB) == 0
        assert second.start().allocate(10 * MIB) == 0
        live.set_memory(20 * MIB)
        assert first.allocate(10 * MIB) == second.allocate(10 * MIB) == OUT_OF_MEMORY
        live.set_memory(LIMIT)
        assert first.allocate(10 * MIB) == second.allocate(10 * MIB) == 0


def test_the_last_good_limits_hold_while_a_writer_is_dead(live: Live) -> None:
    """A node plugin killed half-way leaves an odd sequence; the next one ends the change, and programs follow."""
    with live.container.client() as client:
        assert client.start().allocate(10 * MIB) == 0
        generation = live.limits.generation
        live.set_sequence(1)
        assert client.allocate(LIMIT) == OUT_OF_MEMORY
        assert client.allocate(10 * MIB) == 0
        live.set_memory(40 * MIB)
        assert live.limits.generation == generation + 1
        assert client.allocate(30 * MIB) == OUT_OF_MEMORY
        assert client.view()[1] == 40 * MIB


def test_a_fresh_program_waits_for_no_dead_writer(live: Live) -> None:
    """It gets nothing until the page is whole again, and then what the page says."""
    live.set_sequence(1)
    with live.container.client() as client:
        assert client.start().allocate(1) == OUT_OF_MEMORY
        live.set_memory(LIMIT)
        assert client.allocate(40 * MIB) == 0
