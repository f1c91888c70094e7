"""What the guard costs: calls and process starts, against the same calls without it and under HAMi-core.

All contenders run in turns on one simulated card whose kernels take no time, in random order and fresh processes.  The median
of a call comes from samples that repeat it, the tail from calls that are timed alone.  Budgets are DESIGN section 10's.
"""

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import instructions
from bench.contenders import Arena, Contender
from bench.samples import Samples, over
from bench.servers import HungError, serving

from hacklib.ui import Ui

__all__ = ["main"]

GIB = 1 << 30
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured in a round: after `warm` calls `samples` of `repeats` calls each, then `single` calls alone."""

    what: str
    call: str
    repeats: int = 1
    samples: int = 0
    single: int = 0
    warm: int = 20
    processes: int = 1
    cores_percent: int = 0
    budget_ns: float | None = None
    budget_of: Literal["p50", "p99"] = "p50"


PLANS = (
    Plan(what="launch, no core limit", call="launch", repeats=1000, samples=11, single=500, budget_ns=15),
    Plan(
        what="launch, 50 % of the cores, tokens left",
        call="launch",
        repeats=1000,
        samples=11,
        single=500,
        cores_percent=50,
        budget_ns=60,
    ),
    Plan(what="alloc+free", call="pair", repeats=200, samples=5, single=500, budget_ns=300),
    Plan(what="cuMemGetInfo", call="view", repeats=200, samples=5, single=500, budget_ns=100),
    Plan(what="dlsym of an unrelated name", call="dlsym", repeats=1000, samples=5, single=500),
    Plan(what="start and end of /bin/true", call="true", single=8, warm=1),
    Plan(what="start of a process, cuInit, its end", call="start", single=8, warm=1),
    Plan(what="alloc+free, 8 processes at once", call="pair", single=200, processes=8),
    Plan(
        what="alloc+free, 32 processes at once",
        call="pair",
        single=100,
        processes=32,
        budget_ns=5000,
        budget_of="p99",
    ),
)
COUNTED = ("launch", "pair", "view", "dlsym")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report; a contender that hung or ended has words instead of figures."""

    plan: Plan
    contender: str
    samples: Samples | None
    over_ns: float | None = None
    words: str = ""

    @property
    def verdict(self) -> str:
        """Whether the guard keeps its budget."""
        if self.plan.budget_ns is None or self.contender != "guard" or self.over_ns is None:
            return ""
        return "met" if self.over_ns <= self.plan.budget_ns else "**missed**"

    def __str__(self) -> str:
        if self.samples is None:
            return f"| {self.plan.what} | {self.contender} | {self.words} | | | | | |"
        words = [*map(_nanoseconds, self.figures.values()), _nanoseconds(self.over_ns)]
        budget = "" if self.plan.budget_ns is None else f"{self.plan.budget_of} {_nanoseconds(self.plan.budget_ns)}"
        return f"| {self.plan.what} | {self.contender} | {' | '.join(words)} | {budget} | {self.verdict} |"

    @property
    def figures(self) -> dict[str, float | None]:
        """Quantiles in nanoseconds, None where there are too few samples for one."""
        if self.samples is None:
            return {}
        tails = {f"p{100 * share:g}": share for share in (0.99, 0.999)}
        enough = {name: share for name, share in tails.items() if len(self.samples.single) * (1 - share) > 1}
        return {"p50": self.samples.p50} | {
            name: self.samples.tail(share) if name in enough else None for name, share in tails.items()
        }

    @property
    def json(self) -> dict[str, Any]:
        """The figures for programs, in nanoseconds."""
        row = {"what": self.plan.what, "contender": self.contender, "words": self.words, "over": self.over_ns}
        return row | {"budget": self.plan.budget_ns, "verdict": self.verdict.strip("*")} | self.figures


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables in Markdown, and write the figures as JSON where that is wanted."""
    parser = argparse.ArgumentParser(prog="test/bench/guard", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, metavar="N", help="how many times the contenders take turns")
    parser.add_argument("--peer", type=Path, metavar="LIBRARY", help="HAMi-core's libvgpu.so, to be measured as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    arguments = parser.parse_args(argv)
    ui = Ui()
    load = [os.getloadavg()[0]]
    with Arena.open(peer=arguments.peer, ui=ui) as arena:
        program = arena.compile(HERE / "costs.c")
        rows = []
        for plan in PLANS:
            with ui.task(plan.what):
                rows += _measure(arena, program, plan, rounds=arguments.rounds)
        with ui.task("instructions"):
            counts = _count(arena, program) if instructions.valgrind() else {}
    load.append(os.getloadavg()[0])
    _print(rows, counts, load=load)
    if arguments.json:
        figures = {"at": time.time(), "cpus": os.cpu_count(), "load": load, "rounds": arguments.rounds}
        figures |= {"rows": [row.json for row in rows], "instructions": counts}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="ascii")
    return 0


def _measure(arena: Arena, program: Path, plan: Plan, *, rounds: int) -> list[Row]:
    """The rows of one plan, unhooked first."""
    contenders = arena.contenders(memory_bytes=4 * GIB, cores_percent=plan.cores_percent)
    samples = {contender.name: Samples() for contender in contenders}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for contender in random.sample(contenders, k=len(contenders)):
            if contender.name not in failed:
                try:
                    _round(contender, program, plan, into=samples[contender.name])
                except HungError as error:
                    failed[contender.name] = str(error)
    return [
        Row(plan=plan, contender=name, samples=None, words=failed[name])
        if name in failed
        else Row(plan=plan, contender=name, samples=seen, over_ns=_over(plan, seen, samples["unhooked"]))
        for name, seen in samples.items()
    ]


def _round(contender: Contender, program: Path, plan: Plan, *, into: Samples) -> None:
    """One round in fresh processes: what a process costs depends on where its memory and its slot happen to lie."""
    with serving(contender, program, number=plan.processes) as servers:
        clock = statistics.median(servers[0].ask("clock", samples=200, repeats=1))
        if plan.warm:
            for server in servers:
                server.ask(plan.call, samples=1, repeats=plan.warm)
        repeated = []
        if plan.samples:
            repeated = servers[0].ask(plan.call, samples=plan.samples, repeats=plan.repeats)
        for server in servers:
            server.tell(plan.call, samples=plan.single, repeats=1)
        alone = [max(0.0, t - clock) for server in servers for t in server.answer(samples=plan.single, repeats=1)]
        into.add(repeated=repeated or alone, single=alone)


def _over(plan: Plan, seen: Samples, unhooked: Samples) -> float | None:
    if seen is unhooked:
        return None
    return over(seen, unhooked) if plan.budget_of == "p50" else seen.tail(0.99) - unhooked.tail(0.99)


def _count(arena: Arena, program: Path) -> dict[str, dict[str, float]]:
    """Instructions of each call, and of whole programs, by contender."""
    counts: dict[str, dict[str, float]] = {}
    for contender in arena.contenders(memory_bytes=4 * GIB):
        counts[contender.name] = {call: instructions.of_call(contender, program, call) for call in COUNTED}
        counts[contender.name] |= _count_starts(contender, program)
    for contender in arena.limited(memory_bytes=4 * GIB, cores_percent=50):
        counts[contender.name]["launch, 50 % of the cores"] = instructions.of_call(contender, program, "launch")
    return counts


def _count_starts(contender: Contender, program: Path) -> dict[str, float]:
    return {
        "/bin/true": instructions.of_program(contender, "/bin/true"),
        "process with cuInit": instructions.of_program(contender, program, "start"),
    }


def _print(rows: Sequence[Row], counts: Mapping[str, Mapping[str, float]], *, load: Sequence[float]) -> None:
    print("| what | contender | p50 | p99 | p99.9 | over unhooked | budget | verdict |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(*rows, sep="\n")
    print(f"\n{os.cpu_count()} CPUs, load {load[0]:.1f} before and {load[1]:.1f} after")
    if counts:
        names = list(counts)
        print(f"\n| instructions | {' | '.join(names)} |")
        print(f"| --- |{' --- |' * len(names)}")
        for call in max(counts.values(), key=len):
            cells = [f"{counts[name][call]:,.0f}" if call in counts[name] else "" for name in names]
            print(f"| {call} | {' | '.join(cells)} |")


def _nanoseconds(value: float | None) -> str:
    if value is None:
        return ""
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.1f} ns"
