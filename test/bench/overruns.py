"""What many processes of one limit hold above it, and whether all of them end: the guard, and HAMi-core beside it.

Each scenario runs on a card of its own, whose books (simgpu's) are the observer: the most that was ever held there, to the byte.
A process that has not ended after the deadline is counted as hung and killed.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.contenders import Arena, Contender
from bench.talk import SilentError, Talker
from native.guard.harness import HERE as GUARD_TESTS

from hacklib.ui import Ui

__all__ = ["main"]

LIMIT = 1 << 30
CHUNK = 64 << 20
ALONE = ("1", "s")
"""One thread, synchronous allocations: what every library limits."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What the scenarios run."""

    hammer: Path
    client: Path


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one run of a scenario ended."""

    scenario: str
    contender: str
    above_bytes: int
    hung: int
    failed: int
    """Processes that ended with an error that is not out-of-memory."""
    left_bytes: int
    """What a new process cannot have although nobody holds anything any more."""
    wall_s: float


class Scenario:
    """One contender on a card that nobody used before, with a deadline."""

    def __init__(self, arena: Arena, contender: Contender, programs: Programs, *, deadline_s: float) -> None:
        self.arena = arena
        self.contender = contender
        self.programs = programs
        self.deadline_s = deadline_s
        self.hung = 0
        self.failed = 0

    def hammers(self, seeds: Sequence[int], *, operations: int, most_bytes: int) -> "list[subprocess.Popen[bytes]]":
        """Start processes that allocate and free at random; 0 operations: until they are killed."""
        words = [str(operations), str(most_bytes), *ALONE]
        return [
            subprocess.Popen(
                self.contender.command(self.programs.hammer, str(seed), *words),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for seed in seeds
        ]

    def finish(self, processes: "Sequence[subprocess.Popen[bytes]]") -> None:
        """Wait for their ends; those that hang are killed and counted."""
        end = time.monotonic() + self.deadline_s
        for process in processes:
            try:
                process.communicate(timeout=max(0.1, end - time.monotonic()))
                self.failed += process.returncode != 0
            except subprocess.TimeoutExpired:
                self.hung += 1
        for process in processes:
            process.kill()
            process.communicate()

    def talker(self, stack: ExitStack) -> Talker:
        """A process that does what it is told, killed at the end."""
        return stack.enter_context(Talker.running(self.contender, self.programs.client, deadline_s=self.deadline_s))

    def left_bytes(self) -> int:
        """What is missing of the limit for a new process, now that all others are gone."""
        try:
            with ExitStack() as stack:
                return LIMIT - self.talker(stack).start().free_bytes()
        except SilentError:
            return LIMIT


def _sixteen(run: Scenario) -> None:
    run.finish(run.hammers(range(16), operations=10_000, most_bytes=LIMIT // 12))


def _killed(run: Scenario) -> None:
    victims = run.hammers(range(8), operations=0, most_bytes=LIMIT // 12)
    survivors = run.hammers(range(8, 16), operations=10_000, most_bytes=LIMIT // 12)
    for victim in victims:
        if victim.stdout is None:
            raise AssertionError
        victim.stdout.readline()
        victim.kill()
        victim.communicate()
    run.finish(survivors)


def _come_and_go(run: Scenario) -> None:
    """Three start, two of them end, a fourth starts; then the survivors take what they get."""
    with ExitStack() as stack:
        try:
            first, second, third = (run.talker(stack).start() for _ in range(3))
            first.quit()
            second.quit()
            fourth = run.talker(stack).start()
            for survivor in (third, fourth):
                for _ in range(256):
                    if survivor.allocate(CHUNK):
                        break
        except SilentError:
            run.hung += 1


def _short(run: Scenario) -> None:
    run.finish(run.hammers(range(64), operations=20, most_bytes=1000))


SCENARIOS: dict[str, Callable[[Scenario], None]] = {
    "16 processes": _sixteen,
    "16 processes, half of them killed by SIGKILL": _killed,
    "3 start, 2 end, a 4th starts": _come_and_go,
    "64 short processes at once": _short,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all scenarios, print a table in Markdown, and write the outcomes as JSON where that is wanted."""
    parser = argparse.ArgumentParser(prog="test/bench/overrun", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how many times each scenario is run")
    parser.add_argument("--deadline", type=float, default=60, metavar="SECONDS", help="who runs longer is hung")
    parser.add_argument("--peer", type=Path, metavar="LIBRARY", help="HAMi-core's libvgpu.so, to be tried as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the outcomes")
    arguments = parser.parse_args(argv)
    ui = Ui()
    with Arena.open(peer=arguments.peer, ui=ui) as arena:
        programs = Programs(
            hammer=arena.compile(GUARD_TESTS / "hammer.c"), client=arena.compile(GUARD_TESTS / "client.c")
        )
        outcomes = []
        for name in SCENARIOS:
            with ui.task(name):
                for _ in range(arguments.rounds):
                    outcomes += _run(arena, programs, name, deadline_s=arguments.deadline)
    _print(outcomes)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    return 0


def _run(arena: Arena, programs: Programs, name: str, *, deadline_s: float) -> list[Outcome]:
    outcomes = []
    for index in range(len(arena.limited(memory_bytes=LIMIT))):
        fresh = arena.with_new_card()
        contender = fresh.limited(memory_bytes=LIMIT)[index]
        run = Scenario(fresh, contender, programs, deadline_s=deadline_s)
        begun = time.monotonic()
        SCENARIOS[name](run)
        wall_s = time.monotonic() - begun
        (card,) = fresh.node.cards()
        outcomes.append(
            Outcome(
                scenario=name,
                contender=contender.name,
                above_bytes=max(0, card.peak_bytes - LIMIT),
                hung=run.hung,
                failed=run.failed,
                left_bytes=run.left_bytes(),
                wall_s=wall_s,
            )
        )
    return outcomes


def _print(outcomes: Sequence[Outcome]) -> None:
    print("| under a common 1 GiB | contender | above the limit | runs with hangs | failed | left behind | wall |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for scenario, contender in dict.fromkeys((one.scenario, one.contender) for one in outcomes):
        runs = [one for one in outcomes if (one.scenario, one.contender) == (scenario, contender)]
        above = [one.above_bytes for one in runs]
        walls = [one.wall_s for one in runs]
        cells = (
            "0" if not any(above) else f"{_size(min(above))} to {_size(max(above))}",
            f"{sum(one.hung > 0 for one in runs)} of {len(runs)}",
            str(sum(one.failed for one in runs)),
            _size(max(one.left_bytes for one in runs)),
            f"{min(walls):.1f} to {max(walls):.1f} s",
        )
        print(f"| {scenario} | {contender} | {' | '.join(cells)} |")
    print(f"\n{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")


def _size(value: int) -> str:
    return f"{value / (1 << 20):.1f} MiB" if value else "0"
