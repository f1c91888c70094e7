"""Runs the guard's report on its hook table: the generator lives with the guard, beside what it reads."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

from hacklib.paths import REPOSITORY
from hacklib.ui import HackError

__all__ = ["CUDA_EXPORTS", "NVML_EXPORTS", "hook_report"]

CUDA_EXPORTS = Path("native/simgpu/names/cuda_550.txt")
NVML_EXPORTS = Path("native/simgpu/names/nvml_550.txt")


def hook_report(
    what: Literal["coverage", "page"], *, root: Path = REPOSITORY, cuda: Path | None = None, nvml: Path | None = None
) -> str:
    """The counts, or the page docs/hooks.md, for the names that a driver exports; by default those of driver 550.

    Raises HackError when the table cannot be read.
    """
    guard = root / "native" / "guard"
    words: list[str | Path] = [
        sys.executable,
        guard / "gen" / "report.py",
        what,
        "--table",
        guard / "hooks" / "table.txt",
    ]
    words += ["--cuda-exports", cuda or root / CUDA_EXPORTS, "--nvml-exports", nvml or root / NVML_EXPORTS]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HackError(f"the hook table cannot be reported on:\n{done.stderr}")
    return done.stdout
