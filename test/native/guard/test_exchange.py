"""Processes of one share hand memory to each other in any order, and die in any order: charged once, and never above the limit.

The observer is the simulated card's own accounting.  In each round every process has one command under way at the same time,
and now and then one of them is killed at it; when all have answered, what is charged, what the card holds and what the
processes know are the same.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Client, Container, Node, Programs, Share, make_share, wait_until

LIMIT = 1 << 30
UNIT = 2 << 20
ROUNDS = 60
PIECES = 6
KILLED = 0.3
"""How often a round kills somebody."""
ROUTES = ["ipc", "vmm", "handle", "external"]

pytestmark = [pytest.mark.native, pytest.mark.timeout(180)]


@dataclass(eq=False, kw_only=True)
class Memory:
    """One piece of memory, and the processes that hold it."""

    route: str
    bytes_: int
    word: str = ""
    holders: list["Trader"] = field(default_factory=list)


@dataclass(eq=False, kw_only=True)
class Trader:
    """A process and what it holds, by the number of the piece: the memory, and whether it was imported."""

    client: Client
    pieces: dict[int, tuple[Memory, bool]] = field(default_factory=dict)
    asked: tuple[str, int, Memory] | None = None
    """What it does now: the verb, the piece, the memory."""


class Market:
    """All of them."""

    def __init__(self, container: Container, stack: ExitStack, dice: random.Random, *, processes: int) -> None:
        self._container = container
        self._units = 10 * LIMIT // UNIT // (processes * PIECES)
        self._stack = stack
        self._dice = dice
        self.traders: list[Trader] = []
        self.memories: list[Memory] = []
        self.refused = self.imported = 0

    @property
    def held_bytes(self) -> int:
        """What the processes know that they hold together."""
        return sum(memory.bytes_ for memory in self.memories if memory.holders)

    def join(self) -> None:
        """One more process."""
        client = self._stack.enter_context(self._container.client("sharer")).start()
        self.traders.append(Trader(client=client))

    def tell(self, trader: Trader) -> None:
        """Begin something at random."""
        number = self._dice.randrange(PIECES)
        trader.client.tell(f"piece {number}")
        if number in trader.pieces:
            memory, imported = trader.pieces[number]
            verb = "leave" if imported else "give"
        else:
            offered = [it for it in self.memories if it.word and trader not in it.holders]
            verb = "hold" if offered and self._dice.random() < 0.5 else "take"
            size = UNIT * self._dice.randrange(1, self._units)
            memory = self._dice.choice(offered) if verb == "hold" else Memory(route=self._route(), bytes_=size)
        trader.asked = verb, number, memory
        trader.client.tell(f"{verb} {memory.route} {memory.bytes_} {memory.word}")
        if verb == "take":
            trader.client.tell(f"offer {memory.route}")

    def hear(self, trader: Trader) -> None:
        """What came of it."""
        assert trader.asked is not None
        verb, number, memory = trader.asked
        assert trader.client.read() == ["0"]
        result = int(trader.client.read(to=verb)[0])
        word = trader.client.read(to="offer")[0] if verb == "take" else ""
        self.refused += result == OUT_OF_MEMORY
        if verb in {"leave", "give"}:
            assert result == 0
            del trader.pieces[number]
            memory.holders.remove(trader)
        elif result == 0:
            trader.pieces[number] = memory, verb == "hold"
            memory.holders.append(trader)
            self.imported += verb == "hold"
            if verb == "take":
                memory.word = word
                self.memories.append(memory)
        else:
            assert result == OUT_OF_MEMORY or verb == "hold", result  # what was offered may be gone

    def kill(self, trader: Trader) -> None:
        """It dies at whatever it does."""
        trader.client.kill()
        self.traders.remove(trader)
        for memory, _ in trader.pieces.values():
            memory.holders.remove(trader)

    def forget(self) -> None:
        """Old offers make room for new ones; most of them are of memory that is gone."""
        self.memories = [it for it in self.memories if it.holders] + [it for it in self.memories if not it.holders][-4:]

    def _route(self) -> str:
        return self._dice.choice(ROUTES)


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of 1 GiB of the card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends all processes."""
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(("processes", "seed"), [(2, 1), (4, 2), (8, 3), (8, 4)])
def test_what_is_charged_is_what_is_held_whatever_the_order(
    processes: int, seed: int, node: Node, programs: Programs, share: Share, stack: ExitStack
) -> None:
    """After each round the three figures agree, and at no instant the card held more than the limit."""
    dice = random.Random(seed)  # noqa: S311 # not a secret
    container = Container(programs=programs, driver=node.environment, shares=[share.directory])
    market = Market(container, stack, dice, processes=processes)
    for _ in range(processes):
        market.join()
    for _ in range(ROUNDS):
        for trader in market.traders:
            market.tell(trader)
        if dice.random() < KILLED:
            market.kill(dice.choice(market.traders))
        for trader in market.traders:
            market.hear(trader)
        if len(market.traders) < processes:
            market.join()  # which also takes the dead one's charges back
        assert node.cards()[0].used_bytes == market.held_bytes
        assert share.used_bytes == market.held_bytes
        market.forget()
    assert market.imported > 0
    assert market.refused > 0
    for trader in market.traders.copy():
        market.kill(trader)
    wait_until(lambda: node.cards()[0].used_bytes == 0, what="every process is gone")
    market.join()
    assert share.used_bytes == 0
    assert node.cards()[0].peak_bytes <= LIMIT
    assert share.peak_bytes <= LIMIT
