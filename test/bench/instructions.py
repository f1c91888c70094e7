"""How many instructions a call takes, by valgrind's callgrind: a figure without the noise of clocks and of other programs."""

import re
import shutil
import subprocess
from pathlib import Path

from bench.contenders import Contender

__all__ = ["of_call", "of_program", "valgrind"]

_COLLECTED = re.compile(r"Collected *: *(\d+)")
_FEW, _MANY = 1000, 3000
"""Both beyond what happens at the first calls only."""


def valgrind() -> str | None:
    """Where valgrind is, on machines that have it."""
    return shutil.which("valgrind")


def of_call(contender: Contender, program: Path, call: str) -> float:
    """Instructions in user space of one call, from the difference between few and many of them."""
    few, many = (of_program(contender, program, "repeat", call, str(times)) for times in (_FEW, _MANY))
    return (many - few) / (_MANY - _FEW)


def of_program(contender: Contender, *words: str | Path) -> int:
    """Instructions in user space of a whole program, its dynamic linker included."""
    tool = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    done = subprocess.run(contender.command(*tool, *words), capture_output=True, text=True, check=False, timeout=300)
    found = _COLLECTED.search(done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"{contender.name}: {words} under callgrind ended with {done.returncode}: {done.stderr}")
    return int(found[1])
