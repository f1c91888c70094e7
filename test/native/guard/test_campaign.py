"""Every route to device memory at once, from many processes and threads, some of which are killed: never a byte above the limit.

The observer is the simulated card's own accounting, which keeps the highest sum that it ever held.
HAMI_CAMPAIGN_OPERATIONS says how many operations there are in all; seeds are fixed, so that a failure can be had again.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, Share, make_share, wait_until

OPERATIONS = int(os.environ.get("HAMI_CAMPAIGN_OPERATIONS", "200000"))
LIMIT = 1 << 30
CONTEXT = 4 << 20
PIECES = 24
VICTIMS = 1000
"""Their first seed."""
KILLS_A_SECOND = 25
MOST_S = 60 + OPERATIONS // 1000

pytestmark = [pytest.mark.native, pytest.mark.timeout(MOST_S)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many processes with how many threads; half of the processes of a `killed` one are killed and replaced all the while."""

    processes: int
    threads: int
    killed: bool = False
    routes: str = "smpaydovcg"

    @property
    def finishing(self) -> int:
        """How many processes live to the end of their operations; the others only add to them."""
        return self.processes // 2 if self.killed else self.processes

    @property
    def most_bytes(self) -> int:
        """So large that about twice as much is wanted as there is."""
        return 4 * LIMIT // (self.processes * self.threads * PIECES // 2)


SHAPES = {
    "one process, eight threads": Shape(processes=1, threads=8),
    "four processes, four threads each": Shape(processes=4, threads=4, killed=True),
    "sixteen processes": Shape(processes=16, threads=1, killed=True),
    "sixty-four processes": Shape(processes=64, threads=1, killed=True),
}


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A card whose contexts take memory."""
    node = make_node()
    words = ("set", "--root", str(node.root), "--context-overhead", str(CONTEXT))
    subprocess.run([node.simctl, *words], check=True, capture_output=True)
    return node


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """A share of 1 GiB of the card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=LIMIT)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


def _hammer(container: Container, shape: Shape, *, seed: int, operations: int) -> "subprocess.Popen[str]":
    words = (str(seed), str(operations), str(shape.most_bytes), str(shape.threads), shape.routes)
    command = container.command(container.programs.hammer, *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Victims:
    """Processes that never end by themselves; one after the other is killed, and another takes its place."""

    def __init__(self, container: Container, shape: Shape) -> None:
        """None where the shape has none."""
        self._container = container
        self._shape = shape
        self._processes = [self._another(seed) for seed in range(shape.processes - shape.finishing)]
        self.killed = 0

    def kill_one(self) -> None:
        """The one that lives longest."""
        if not self._processes:
            return
        _end(self._processes.pop(0))
        self.killed += 1
        self._processes.append(self._another(len(self._processes) + self.killed))

    def end(self) -> None:
        """All of them."""
        for process in self._processes:
            _end(process)

    def _another(self, seed: int) -> "subprocess.Popen[str]":
        return _hammer(self._container, self._shape, seed=VICTIMS + seed, operations=0)


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def _finish(process: "subprocess.Popen[str]", victims: Victims) -> tuple[str, str]:
    """What it prints; meanwhile others die."""
    for _ in range(MOST_S * KILLS_A_SECOND):
        try:
            return process.communicate(timeout=1 / KILLS_A_SECOND)
        except subprocess.TimeoutExpired:
            victims.kill_one()
    raise TimeoutError(f"process {process.pid} works for more than {MOST_S} s")


@pytest.mark.parametrize("name", SHAPES)
def test_a_campaign_over_all_routes_never_holds_a_byte_too_much(
    name: str, container: Container, node: Node, share: Share
) -> None:
    """The highest sum that the card ever saw is within the limit, and in the end nothing is held and nothing charged."""
    shape = SHAPES[name]
    operations = OPERATIONS // len(SHAPES) // shape.finishing // shape.threads
    victims = Victims(container, shape)
    processes = [_hammer(container, shape, seed=seed, operations=operations) for seed in range(shape.finishing)]
    try:
        for process in processes:
            output, errors = _finish(process, victims)
            assert process.returncode == 0, errors
            assert node.cards()[0].peak_bytes <= LIMIT, output
        victims.end()
        wait_until(lambda: node.cards()[0].used_bytes == 0, what="every process is gone")
        with container.client() as last:
            last.start()
            assert last.allocate(LIMIT - CONTEXT + 1) == OUT_OF_MEMORY
            assert last.allocate(LIMIT - CONTEXT) == 0
            assert last.ask("free 0") == ["0"]
            assert share.used_bytes == node.cards()[0].used_bytes == CONTEXT
            assert node.cards()[0].peak_bytes <= LIMIT
            assert share.peak_bytes <= LIMIT
            assert share.refused_total > 0
        print(f"{name}: {len(processes) * shape.threads * operations} operations, {victims.killed} killed")
    finally:
        victims.end()
        for process in processes:
            _end(process)


@pytest.mark.parametrize("routes", ["d", "c", "vc"])
def test_threads_on_few_routes_never_hold_a_byte_too_much(routes: str, container: Container, node: Node) -> None:
    """What one frees in a pool counts once; what a context leaves is charged until the driver has freed it."""
    shape = Shape(processes=1, threads=8, routes=routes)
    process = _hammer(container, shape, seed=0, operations=min(OPERATIONS, 200_000) // shape.threads)
    _, errors = process.communicate(timeout=MOST_S)
    assert process.returncode == 0, errors
    assert node.cards()[0].peak_bytes <= LIMIT
