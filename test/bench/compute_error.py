"""How far shares are from the compute they were given, on a simulated card that knows who really kept it busy.

Every workload runs in processes of its own, under the guard and, with `--peer`, under HAMi-core.  After two seconds to settle in,
the card's own GPU time of each share is taken over windows of five seconds; the error is the mean distance from the target in
points of the card, where the target is no more than the workload can use without any limit.  Shares of a contested card run once
by themselves and once with the arbiter of the node plugin, which sees them as NVML would: in whole percent, six times a second.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compute_plot import Point, plot
from bench.contenders import Arena, Contender
from bench.grants import Grants
from native.guard.harness import HERE

from hacklib.ui import Ui

__all__ = ["main"]

Step = Callable[[], None]

SETTLE_S = 2.0
ROUND_S = 0.1
"""Between two decisions of the arbiter."""
WINDOW_S = 5.0
BUDGET_POINTS = 2.0
MEMORY_BYTES = 8 << 30
US, MS = 1_000, 1_000_000
TARGETS = (10, 20, 30, 50, 70, 90)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a process does: a mode of the worker, the length of its kernels, its streams."""

    mode: str
    ns: int
    streams: int = 1

    def __str__(self) -> str:
        length = f"{self.ns // MS} ms" if self.ns >= MS else f"{self.ns // US} µs"
        return f"{self.mode} {length}" + (f", {self.streams} streams" if self.streams > 1 else "")


ALONE = (
    *(Load(mode="sync", ns=ns) for ns in (10 * US, MS, 20 * MS, 200 * MS)),
    *(Load(mode="async", ns=ns) for ns in (10 * US, 100 * US, MS, 20 * MS, 200 * MS)),
    *(Load(mode="async", ns=ns, streams=4) for ns in (100 * US, MS, 20 * MS)),
    Load(mode="vary", ns=500 * US),
    Load(mode="burst", ns=500 * US),
    Load(mode="graph", ns=100 * US),
)
TOGETHER = (Load(mode="async", ns=100 * US), Load(mode="async", ns=MS), Load(mode="async", ns=20 * MS))
DIVISIONS = ((10, 90), (30, 30, 40), (12,) * 8)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One share's part in one case; figures in points of the card."""

    load: Load
    contender: str
    cores: tuple[int, ...]
    demand: float
    windows: tuple[tuple[float, ...], ...]
    """By window, then by share."""

    @property
    def uses(self) -> list[float]:
        """What each share got on average."""
        return [statistics.mean(share) for share in zip(*self.windows, strict=True)]

    @property
    def error(self) -> float:
        """The mean distance from the targets, of all shares and windows."""
        return statistics.mean(
            self._distance(use, cores) for window in self.windows for use, cores in zip(window, self.cores, strict=True)
        )

    def _distance(self, use: float, cores: float) -> float:
        """Less than its cores is no error of a workload that did not use more without any limit."""
        return max(use - cores, min(cores, self.demand) - use, 0.0)

    @property
    def above(self) -> float:
        """How far a share's mean was above its target at most."""
        return max(use - cores for use, cores in zip(self.uses, self.cores, strict=True))

    @property
    def verdict(self) -> str:
        """Whether the error is within the budget."""
        return "met" if self.error <= BUDGET_POINTS else "**missed**"

    def __str__(self) -> str:
        targets, uses = ":".join(map(str, self.cores)), " ".join(f"{use:.1f}" for use in self.uses)
        return (
            f"| {self.load} | {targets} | {self.contender} | {self.demand:.0f} | {uses} "
            f"| {self.error:.2f} | {self.above:+.2f} | {self.verdict} |"
        )

    @property
    def json(self) -> dict[str, Any]:
        """The same for programs."""
        figures = {"load": str(self.load), "contender": self.contender, "cores": self.cores, "demand": self.demand}
        return figures | {"windows": self.windows, "error": self.error, "above": self.above}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where everything runs."""

    arena: Arena
    worker: Path
    windows: int

    def demand(self, load: Load) -> float:
        """The part of a card that one process takes without limits, in percent; 0: the workload does not run here."""
        unhooked, *_ = self.arena.contenders(memory_bytes=MEMORY_BYTES)
        try:
            with self._running([unhooked], load) as workers:
                _pause(0.5)
                return self._window(workers, 2.0)[0]
        except ChildProcessError:
            return 0.0

    def measure(self, load: Load, cores: Sequence[int], *, demand: float, arbiter: bool, peer: bool) -> Row:
        """One case: as many processes as there are cores, each in a share of its own."""
        found = [self.arena.limited(memory_bytes=MEMORY_BYTES, cores_percent=percent) for percent in cores]
        contenders = [each[1 if peer else 0] for each in found]
        name = contenders[0].name + (" and arbiter" if arbiter else "")
        with ExitStack() as stack:
            workers = stack.enter_context(self._running(contenders, load))
            step: Step | None = None
            if arbiter:
                shares = [contender.shares[0] for contender in contenders]
                step = Grants(node=self.arena.node, shares=shares, pids=[it.pid for it in workers]).step
            _pause(SETTLE_S, step)
            windows = tuple(tuple(self._window(workers, WINDOW_S, step)) for _ in range(self.windows))
        return Row(load=load, contender=name, cores=tuple(cores), demand=demand, windows=windows)

    @contextmanager
    def _running(self, contenders: Sequence[Contender], load: Load) -> Iterator[list["subprocess.Popen[str]"]]:
        with ExitStack() as stack:
            workers = []
            for contender in contenders:
                command = contender.command(self.worker, load.mode, str(load.ns), str(load.streams))
                process = stack.enter_context(
                    subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                )
                stack.callback(process.kill)
                workers.append(process)
            for process in workers:
                if process.stdout is None or process.stdout.readline() != "ready\n":
                    raise ChildProcessError(f"{load}: the worker ended")
            yield workers
            if any(process.poll() is not None for process in workers):
                raise ChildProcessError(f"{load}: the worker ended")

    def _window(
        self, workers: Sequence["subprocess.Popen[str]"], seconds: float, step: Step | None = None
    ) -> list[float]:
        before, begun = self.arena.node.gpu_time_ns(), time.monotonic()
        _pause(seconds, step)
        after, ended = self.arena.node.gpu_time_ns(), time.monotonic()
        spent = [after.get(it.pid, 0) - before.get(it.pid, 0) for it in workers]
        return [100 * ns / (1e9 * (ended - begun)) for ns in spent]


def _pause(seconds: float, step: Step | None = None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, ROUND_S))
        if step:
            step()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table in Markdown, write JSON and the plot where they are wanted."""
    parser = argparse.ArgumentParser(prog="test/bench/compute", description=__doc__.partition("\n")[0])
    parser.add_argument("--windows", type=int, default=2, metavar="N", help="windows of five seconds for each case")
    parser.add_argument("--targets", type=int, nargs="+", default=TARGETS, metavar="PERCENT", help="of shares alone")
    parser.add_argument("--match", default="", metavar="TEXT", help="only workloads whose name has this in it")
    parser.add_argument("--peer", type=Path, metavar="LIBRARY", help="HAMi-core's libvgpu.so, to be measured as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to write the plot, as SVG")
    arguments = parser.parse_args(argv)
    ui = Ui()
    load = [os.getloadavg()[0]]
    with Arena.open(peer=arguments.peer, ui=ui) as arena:
        bench = Bench(arena=arena, worker=arena.compile(HERE / "worker.c"), windows=arguments.windows)
        rows = list(_measure(bench, arguments.targets, match=arguments.match, peer=bool(arguments.peer), ui=ui))
    load.append(os.getloadavg()[0])
    print(f"\n{os.cpu_count()} CPUs, load {load[0]:.1f} before and {load[1]:.1f} after")
    if arguments.json:
        figures = {"at": time.time(), "cpus": os.cpu_count(), "load": load, "rows": [row.json for row in rows]}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="ascii")
    if arguments.plot:
        points = [
            Point(series=row.contender, label=str(row.load), target=row.cores[0], use=row.uses[0])
            for row in rows
            if len(row.cores) == 1
        ]
        arguments.plot.write_text(plot(points, budget=BUDGET_POINTS), encoding="utf-8")
    return 0


def _measure(bench: Bench, targets: Sequence[int], *, match: str, peer: bool, ui: Ui) -> Iterator[Row]:
    print("| workload | cores | contender | unhooked | used | error | most above | verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for load in (it for it in ALONE if match in str(it)):
        with ui.task(str(load)):
            demand = bench.demand(load)
            for cores in targets if demand else ():
                for of_peer in (False, True) if peer else (False,):
                    row = bench.measure(load, (cores,), demand=demand, arbiter=False, peer=of_peer)
                    print(row, flush=True)
                    yield row
    for load in (it for it in TOGETHER if match in str(it)):
        for division in DIVISIONS:
            with ui.task(f"{load}, {len(division)} shares"):
                for arbiter, of_peer in ((False, False), (True, False), *([(False, True)] if peer else [])):
                    row = bench.measure(load, division, demand=100.0, arbiter=arbiter, peer=of_peer)
                    print(row, flush=True)
                    yield row
