"""Fuzzes the guard's parsers, under AddressSanitizer and UndefinedBehaviorSanitizer.

A target (native/guard/fuzz) is one LLVMFuzzerTestOneInput.  Where the host's clang brings libFuzzer, that drives it; elsewhere
native/guard/fuzz/driver.c does, which needs no more than gcc's coverage callbacks.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hacklib.paths import REPOSITORY, native_dir
from hacklib.ui import HackError, Ui

__all__ = ["TARGETS", "Result", "fuzz"]

TARGETS = ("limits", "usage")
_GUARD = REPOSITORY / "native" / "guard"
_UNDER_TEST = (
    *(_GUARD / name for name in ("os/lock.c", "os/prim.c", "shares/credit.c", "shares/limits.c")),
    *_GUARD.glob("shares/usage*.c"),
)
_FLAGS = (
    *("-std=gnu17", "-O1", "-g", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *(f"-I{_GUARD / room}" for room in ("os", "shares", "memory", "fuzz")),
    f"-I{REPOSITORY / 'api' / 'abi'}",
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one target's run came to."""

    target: str
    said: str
    """The last line of the fuzzer: how much it did."""
    failure: str | None
    """What a sanitizer or a check of the target said, None when all held."""
    directory: Path
    """Where an input that fails was left."""


def fuzz(target: str, *, seconds: float, seed: int, ui: Ui) -> Result:
    """Compile a target and run it for so long.

    Raises HackError when the host has neither clang nor gcc, or the target does not compile.
    """
    directory = native_dir() / "fuzz" / target
    directory.mkdir(parents=True, exist_ok=True)
    clang = shutil.which("clang")
    sources = [_GUARD / "fuzz" / f"{target}.c", *_UNDER_TEST]
    with ui.task(f"fuzzing {target}"):
        if clang and _links([clang, *_FLAGS, "-fsanitize=fuzzer", *sources], output=directory / "fuzzer"):
            words = [f"-max_total_time={int(seconds)}", f"-seed={seed}", "-print_final_stats=1"]
        else:
            _compile_with_driver(sources, directory=directory)
            words = [str(seconds), str(seed)]
        run = [str(directory / "fuzzer"), *words]
        done = subprocess.run(run, cwd=directory, capture_output=True, text=True, errors="replace", check=False)
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    failure = (done.stderr.strip() or f"ended with {done.returncode}") if done.returncode else None
    return Result(target=target, said=said[-1] if said else "", failure=failure, directory=directory)


def _compile_with_driver(sources: Sequence[Path], *, directory: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise HackError("fuzzing needs the host's clang or gcc, found neither; install one of them")
    objects = []
    for source in sources:
        objects.append(directory / f"{source.stem}-{source.parent.name}.o")
        _compile([compiler, *_FLAGS, "-fsanitize-coverage=trace-pc", "-c", source, "-o", objects[-1]])
    # The driver is not under test: its own steps are no coverage.
    _compile([compiler, *_FLAGS, _GUARD / "fuzz" / "driver.c", *objects, "-o", directory / "fuzzer"])


def _compile(words: Sequence[str | Path]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"a fuzz target does not compile:\n{done.stderr}")


def _links(words: Sequence[str | Path], *, output: Path) -> bool:
    return subprocess.run([*words, "-o", output], capture_output=True, check=False).returncode == 0
