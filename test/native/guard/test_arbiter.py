"""Compute shares with everything in its place: programs under the guard, the node plugin's arbiter, and a card that takes time.

The observer is the simulated card itself, which knows to the nanosecond what ran.  Shares are compared with each other, over
windows of two seconds, until they are what they should be: how soon depends on what else this machine does.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from native.guard.harness import Container, Node, Programs, wait_until

from hacklib.paths import REPOSITORY
from hami_dra.core.limits import decode

pytestmark = [pytest.mark.native, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
KERNEL = str(1_000_000)
LONG_KERNEL = str(200_000_000)
WINDOW_NS = 2_000_000_000


class Site:
    """A node's only card, an arbiter, and programs that use the card without pause."""

    def __init__(self, programs: Programs, node: Node, directory: Path) -> None:
        self._programs = programs
        self._node = node
        self._claims = directory / "claims"

    @contextmanager
    def arbitrating(self, *shares: str) -> Iterator[None]:
        """The arbiter runs, for these shares."""
        command = [sys.executable, str(HERE / "arbitrate.py"), str(self._node.root), str(self._claims), *shares]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                yield
            finally:
                process.kill()

    @contextmanager
    def program(self, share: str, kernel_ns: str = KERNEL) -> Iterator[int]:
        """A program of that share; gives its pid."""
        container = Container(
            programs=self._programs, driver=self._node.environment, shares=[self._claims / share / share]
        )
        workload = self._programs.simgpu / "workload"
        process = subprocess.Popen(
            container.command(workload, "saturate", kernel_ns), stdout=subprocess.PIPE, text=True
        )
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process.pid
            finally:
                process.kill()

    def granted(self, share: str) -> int:
        """The word in the share's limits file."""
        return decode((self._claims / share / share / "limits").read_bytes()).granted_permille

    def gpu_time(self) -> tuple[int, dict[int, int]]:
        """The card's clock, and what each process had of it."""
        listing = subprocess.run(
            [self._node.simctl, "list", "--root", self._node.root, "--json"], capture_output=True, text=True, check=True
        )
        (card,) = json.loads(listing.stdout)["cards"]
        processes = {process["pid"]: process["gpu_time_ns"] for process in card["processes"]}
        return sum(processes.values()), processes

    def wait_for(self, shares: Mapping[int, float], *, within: float = 0.025) -> None:
        """Until the processes have these parts of the GPU time that was used."""
        begun = self.gpu_time()

        def reached() -> bool:
            nonlocal begun
            total, now = self.gpu_time()
            if total - begun[0] < WINDOW_NS:
                return False
            parts = {pid: (now[pid] - begun[1][pid]) / (total - begun[0]) for pid in shares}
            begun = (total, now)
            return all(abs(parts[pid] - part) <= within for pid, part in shares.items())

        wait_until(reached, what=f"parts {dict(shares)}")


@pytest.fixture
def site(programs: Programs, node: Node, tmp_path: Path) -> Site:
    """A node with one card."""
    return Site(programs, node, tmp_path)


@pytest.mark.parametrize("cores", [(30, 70), (10, 90), (25, 25, 50)])
def test_fixed_shares_divide_a_full_card(site: Site, cores: tuple[int, ...]) -> None:
    """Each guard sees its neighbours' time slices as its own kernels' time; the driver's figures set that right."""
    names = [f"share-{index}" for index in range(len(cores))]
    with ExitStack() as stack:
        shares = (f"{name}:{part}:FixedShare:Normal" for name, part in zip(names, cores, strict=True))
        stack.enter_context(site.arbitrating(*shares))
        pids = [stack.enter_context(site.program(name)) for name in names]
        site.wait_for({pid: part / 100 for pid, part in zip(pids, cores, strict=True)})


def test_long_kernels_do_not_get_more(site: Site) -> None:
    """Kernels of 200 ms and of 1 ms, half of the card each."""
    with (
        site.arbitrating("a:50:FixedShare:Normal", "b:50:FixedShare:Normal"),
        site.program("a", LONG_KERNEL) as first,
        site.program("b") as second,
    ):
        site.wait_for({first: 0.5, second: 0.5}, within=0.04)


def test_idle_time_goes_to_bursts_and_comes_back(site: Site) -> None:
    """A burst share of 30 has the whole card until a fixed share of 50 computes, and again after it ended."""
    with site.arbitrating("a:30:BurstShare:Normal", "b:50:FixedShare:Normal"), site.program("a") as burst:
        wait_until(lambda: site.granted("a") >= 950, what="the whole card")
        with site.program("b") as fixed:
            site.wait_for({burst: 0.5, fixed: 0.5}, within=0.04)
        wait_until(lambda: site.granted("a") >= 950, what="the whole card again")


def test_a_low_program_lives_next_to_a_high_one(site: Site) -> None:
    """High takes all that nobody was promised; Low still gets on."""
    with (
        site.arbitrating("high:0:BestEffort:High", "low:0:BestEffort:Low"),
        site.program("high") as high,
        site.program("low") as low,
    ):
        site.wait_for({high: 0.98, low: 0.02})
        before = site.gpu_time()[1][low]
        wait_until(lambda: site.gpu_time()[1][low] > before, what="progress of the low program")


def test_grants_outlive_their_arbiter_and_the_next_one_goes_on(site: Site) -> None:
    """The arbiter is killed: programs keep what they were granted last, and the next arbiter corrects again."""
    shares = ("a:30:FixedShare:Normal", "b:70:FixedShare:Normal")
    with ExitStack() as stack:
        with site.arbitrating(*shares):
            first, second = (stack.enter_context(site.program(name)) for name in ("a", "b"))
            site.wait_for({first: 0.3, second: 0.7})
        words = [site.granted(name) for name in ("a", "b")]
        assert all(words)
        with site.arbitrating(*shares):
            site.wait_for({first: 0.3, second: 0.7})
