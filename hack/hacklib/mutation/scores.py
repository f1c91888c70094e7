"""What became of the mutants, by module, from the files that mutmut leaves."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Score", "scores", "table"]

_OUTCOMES = {
    1: "killed",
    3: "killed",
    0: "survived",
    5: "untested",
    33: "untested",
    36: "timeout",
    24: "timeout",
    -24: "timeout",
    152: "timeout",
    255: "timeout",
}
"""By the status with which a mutant's tests ended (mutmut/stats.py); anything else was not run."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Mutants of one module, by what became of them."""

    killed: int = 0
    timeout: int = 0
    """The tests did not end in time: mostly loops that no longer end, which counts as noticed."""
    survived: int = 0
    untested: int = 0
    """In code that no test of this selection runs."""
    not_run: int = 0

    @property
    def percent(self) -> int | None:
        """Noticed mutants, of those that were run; None where none was."""
        run = self.killed + self.timeout + self.survived + self.untested
        return 100 * (self.killed + self.timeout) // run if run else None


def scores(mutants: Path) -> dict[str, Score]:
    """By module name below `core`, from the directory that mutmut works in; modules without mutants are left out."""
    found: dict[str, Score] = {}
    core = mutants / "hami_dra" / "core"
    for path in sorted(core.rglob("*.meta")):
        statuses = json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"].values()
        counts = Counter(_OUTCOMES.get(status, "not_run") for status in statuses)
        if counts:
            name = ".".join(path.relative_to(core).parts).removesuffix(".py.meta")
            found[name] = Score(**counts)
    return found


def table(found: Mapping[str, Score]) -> str:
    """The scores as a table of Markdown, the worst first, with their sum."""
    lines = [
        "| module | score | killed | time-out | survived | untested | not run |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = sorted(found.items(), key=lambda row: (row[1].percent is None, row[1].percent, row[0]))
    for name, score in [*rows, ("all", _sum(found.values()))]:
        percent = "" if score.percent is None else f"{score.percent} %"
        counts = (score.killed, score.timeout, score.survived, score.untested, score.not_run)
        lines.append(f"| `{name}` | {percent} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def _sum(each: Iterable[Score]) -> Score:
    known = list(each)
    return Score(
        killed=sum(score.killed for score in known),
        timeout=sum(score.timeout for score in known),
        survived=sum(score.survived for score in known),
        untested=sum(score.untested for score in known),
        not_run=sum(score.not_run for score in known),
    )
