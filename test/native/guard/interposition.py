"""What the interposition tests share: the questions that cover every hooked name, the programs that ask them, and their answers.

The questions come from the hook table and from the driver's own exports, so that a new hook is asked about by itself.  The
answers of a process without the guard say what the driver would give; with the guard every hooked name must lead to the hook
of that very function, and every other name to the driver as before.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from native.guard.elf import read_library
from native.guard.harness import Container

__all__ = ["GUARD", "MatrixPrograms", "Question", "Table", "ask", "expected", "read_hooks"]

GUARD = "libhami_guard.so"
PER_THREAD = (0, 1, 2)
"""Flags of cuGetProcAddress: nothing said, the legacy default stream, one default stream a thread."""
NEWEST = 13050

Question = str
Answers = dict[Question, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixPrograms:
    """matrix.c, compiled in several ways."""

    old: Path
    """Against glibc 2.17: its dlsym has the oldest version that there is."""
    new: Path
    """Against the host's glibc: its dlsym has the newest version."""
    early: Path
    """A library whose constructor asks, with a dlsym of no version."""
    linked: dict[str, Path]
    """Linked to a driver; by the driver's name."""
    static: Path
    """A static program that runs another."""
    preload: Path
    """A library of somebody else that hooks dlsym and cuMemAlloc_v2 and forwards what it gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The generated hook table."""

    names: frozenset[str]
    versions: dict[str, frozenset[int]]
    """By the name that cuGetProcAddress is asked for: the CUDA versions that changed the ABI of a hooked function."""

    def names_asked(self, driver: Path) -> list[Question]:
        """All hooked names, all that the driver exports, and one that nobody has."""
        names = {*self.names, *read_library(driver / "libcuda.so.1").exported, "cuNoSuchThing"}
        if not (driver / "libnvidia-ml.so.1").exists():
            return sorted(name for name in names if not name.startswith("nvml"))
        return sorted({*names, *read_library(driver / "libnvidia-ml.so.1").exported, "nvmlNoSuchThing"})

    def addresses_asked(self, driver: Path) -> list[Question]:
        """Each function at each version that changes its ABI and just before, with each flag; others at the newest version."""
        exported = read_library(driver / "libcuda.so.1").exported
        bases = {re.sub(r"(_v\d+)?(_pt[ds][sz])?$", "", name) for name in exported} | set(self.versions)
        versions = {base: {NEWEST, *self.versions.get(base, ())} for base in bases}
        return [
            f"{base} {version} {flags}"
            for base in sorted(bases)
            for since in sorted(versions[base])
            for version in ((since - 1, since) if base in self.versions else (since,))
            for flags in PER_THREAD
        ]


def read_hooks(generated: Path) -> Table:
    """The table that the guard was built with."""
    rows = re.findall(r"X\((\w+), (\w+), (\w+), (\d+), \w+\)", (generated / "hook_table.h").read_text())
    versions: dict[str, set[int]] = {}
    for library, _, base, since in rows:
        if library == "CUDA":
            versions.setdefault(base, set()).add(int(since))
    return Table(
        names=frozenset(row[1] for row in rows), versions={base: frozenset(found) for base, found in versions.items()}
    )


def ask(container: Container, questions: list[Question], *words: str | Path) -> Answers:
    """Run a program of the matrix inside and return what it found, by question."""
    done = subprocess.run(
        container.command(*words), input="\n".join(questions) + "\n", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    answers = dict(line.split(" = ", 1) for line in done.stdout.splitlines())
    assert set(questions) <= set(answers), "an answer is missing"
    return answers


def expected(unguarded: Answers, table: Table) -> Answers:
    """What the same questions must give under the guard."""
    return {question: _guarded(answer, table) for question, answer in unguarded.items()}


def _guarded(answer: str, table: Table) -> str:
    symbol = answer.partition(" ")[0]
    return f"{symbol} {GUARD}" if symbol in table.names else answer
