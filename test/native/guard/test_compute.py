"""Compute shares on a simulated card, judged by what the card itself says about each process.

The bounds are those of a busy machine: above its target a share may be by little, below it by what the machine's other work takes
away.  Exact figures are the business of test/bench/compute.
"""

import hashlib
import mmap
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from native.guard.harness import Container, Node, Programs, Share, make_share, wait_until

from hami_dra._gen import abi

MS = 1_000_000
ABOVE = 0.05
BELOW = 0.5
"""Of its target is what a share gets at least, whatever else the machine does."""

pytestmark = pytest.mark.native
Worker = subprocess.Popen[str]
MakeNode = Callable[..., Node]


class Site:
    """One node, and workers on it that are killed in the end."""

    def __init__(self, *, node: Node, programs: Programs, directory: Path, stack: ExitStack) -> None:
        self.node = node
        self._programs = programs
        self._directory = directory
        self._stack = stack
        self._uuids = [card.uuid for card in node.cards()]

    def share(self, name: str, *, cores: int, card: int = 0) -> Share:
        """A share of a card."""
        return make_share(self._directory, name, uuid=self._uuids[card], cores_percent=cores)

    def change(self, share: Share, *, generation: int, cores: int) -> None:
        """Another limit, in place."""
        share.set_limit(uuid=self._uuids[0], memory_bytes=0, generation=generation, cores_percent=cores)

    def start(self, shares: Sequence[Share], mode: str, ns: int, *, streams: int = 1) -> Worker:
        """A worker that has made its context."""
        directories = [share.directory for share in shares]
        container = Container(programs=self._programs, driver=self.node.environment, shares=directories)
        command = container.command(self._programs.worker, mode, str(ns), str(streams))
        worker = self._stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )
        self._stack.callback(worker.kill)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    def busy_ns(self, *workers: Worker, card: int = 0) -> int:
        """How long these workers have kept the card busy."""
        times = self.node.gpu_time_ns(card)
        return sum(times.get(worker.pid, 0) for worker in workers)

    def use(self, *workers: Worker, over_s: float, card: int = 0) -> float:
        """The part of a card that these workers take from now on."""
        begun, before = time.monotonic(), self.busy_ns(*workers, card=card)
        wait_until(lambda: time.monotonic() > begun + over_s, what="the time to measure")
        return (self.busy_ns(*workers, card=card) - before) / (1e9 * (time.monotonic() - begun))


@contextmanager
def _site(node: Node, programs: Programs, directory: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(node=node, programs=programs, directory=directory, stack=stack)


@pytest.fixture
def site(node: Node, programs: Programs, tmp_path: Path) -> Iterator[Site]:
    """A node with one card."""
    with _site(node, programs, tmp_path / "shares") as found:
        yield found


@pytest.fixture
def two_cards(make_node: MakeNode, programs: Programs, tmp_path: Path) -> Iterator[Site]:
    """A node with two cards."""
    with _site(make_node(cards=2), programs, tmp_path / "shares") as found:
        yield found


def _settled(site: Site, *workers: Worker) -> None:
    site.use(*workers, over_s=1.0)


@pytest.mark.parametrize(
    ("cores", "mode", "ns", "streams"),
    [
        (50, "async", 10_000, 1),
        (30, "async", 100_000, 1),
        (70, "async", 20 * MS, 1),
        (20, "vary", 200_000, 1),
        (50, "async", 5 * MS, 4),
        (40, "sync", 5 * MS, 1),
        (30, "burst", MS, 2),
    ],
)
def test_a_share_computes_as_much_as_it_may(site: Site, cores: int, mode: str, ns: int, streams: int) -> None:
    """Short and long kernels, queued or waited for, on one and on several streams, of one or of changing duration."""
    worker = site.start([site.share("share", cores=cores)], mode, ns, streams=streams)
    _settled(site, worker)
    use = site.use(worker, over_s=2.5)
    assert BELOW * cores / 100 < use < cores / 100 + ABOVE


def test_processes_of_one_share_pay_from_one_bucket(site: Site) -> None:
    """Three processes together compute what one may."""
    share = site.share("share", cores=40)
    workers = [site.start([share], "async", MS) for _ in range(3)]
    _settled(site, *workers)
    assert 0.2 < site.use(*workers, over_s=2.5) < 0.4 + ABOVE


def test_a_process_that_dies_while_it_waits_takes_nothing_with_it(site: Site) -> None:
    """After kill -9 of one of two, the other one computes what both did."""
    share = site.share("share", cores=30)
    victim, survivor = (site.start([share], "async", 10 * MS) for _ in range(2))
    _settled(site, victim, survivor)
    victim.kill()
    victim.wait()
    _settled(site, survivor)
    assert 0.15 < site.use(survivor, over_s=2.5) < 0.3 + ABOVE


def test_shares_of_one_card_stay_below_their_targets_by_themselves(site: Site) -> None:
    """Who is interrupted by others measures too much, never too little."""
    targets = (10, 30, 60)
    workers = [site.start([site.share(f"share-{cores}", cores=cores)], "async", MS) for cores in targets]
    _settled(site, *workers)
    before, begun = [site.busy_ns(worker) for worker in workers], time.monotonic()
    _settled(site, *workers)
    _settled(site, *workers)
    for worker, cores, was in zip(workers, targets, before, strict=True):
        use = (site.busy_ns(worker) - was) / (1e9 * (time.monotonic() - begun))
        assert use < cores / 100 + ABOVE


def test_a_changed_limit_holds_while_the_program_runs(site: Site) -> None:
    """Down from most of the card to little, and up again."""
    share = site.share("share", cores=80)
    worker = site.start([share], "async", MS)
    _settled(site, worker)
    site.change(share, generation=2, cores=10)
    site.use(worker, over_s=0.5)  # what was queued before the change
    assert site.use(worker, over_s=2.0) < 0.1 + ABOVE
    site.change(share, generation=3, cores=60)
    site.use(worker, over_s=0.2)
    assert 0.3 < site.use(worker, over_s=2.0) < 0.6 + ABOVE


def test_a_launch_that_waits_for_seconds_counts_as_held_back_all_the_while(site: Site) -> None:
    """Whoever corrects shares from outside would take it for one that has enough."""
    share = site.share("share", cores=2)
    worker = site.start([share], "sync", 200 * MS)
    wait_until(lambda: share.throttled_ns > 500 * MS, what="the second launch waits")
    assert site.busy_ns(worker) == 200 * MS


def test_an_idle_share_saves_up_next_to_nothing(site: Site) -> None:
    """After seconds of rest a share of a fifth does not take the card for itself."""
    worker = site.start([site.share("share", cores=20)], "told", MS)
    assert worker.stdin is not None
    assert worker.stdout is not None
    for _ in range(5):
        worker.stdin.write("1\n")
        assert worker.stdout.readline() == "done\n"
    site.use(worker, over_s=2.0)
    worker.stdin.write("400\n")
    assert site.use(worker, over_s=1.0) < 0.2 + 0.1


def test_nonsense_in_the_usage_file_stops_nobody_for_ever(site: Site) -> None:
    """Whatever comes to stand in bucket, clock and map, launches go on."""
    share = site.share("share", cores=50)
    worker = site.start([share], "async", MS)
    _settled(site, worker)
    with (share.directory / "usage").open("r+b") as file, mmap.mmap(file.fileno(), abi.USAGE_HEADER_SIZE) as header:
        for number in range(200):
            for at in (abi.USAGE_BUCKET_NS_OFFSET, abi.USAGE_BUCKET_AT_NS_OFFSET, abi.USAGE_BUSY_OFFSET):
                header[at : at + 8] = hashlib.sha256(b"%d %d" % (number, at)).digest()[:8]
        header[abi.USAGE_BUCKET_NS_OFFSET : abi.USAGE_BUCKET_NS_OFFSET + 8] = (-1).to_bytes(8, "little", signed=True)
        header[abi.USAGE_BUCKET_AT_NS_OFFSET : abi.USAGE_BUCKET_AT_NS_OFFSET + 8] = b"\xff" * 8
    before = site.busy_ns(worker)
    wait_until(lambda: site.busy_ns(worker) > before + 500 * MS, what="launches go on")


def test_ranks_that_wait_for_each_other_reach_their_share_on_both_cards(two_cards: Site) -> None:
    """A process with a share of two cards that always waits for both does not stall."""
    shares = [two_cards.share(f"card-{card}", cores=50, card=card) for card in (0, 1)]
    worker = two_cards.start(shares, "ranks", 2 * MS)
    _settled(two_cards, worker)
    assert 0.25 < two_cards.use(worker, over_s=2.0) < 0.5 + ABOVE
    assert 0.25 < two_cards.use(worker, over_s=2.0, card=1) < 0.5 + ABOVE
