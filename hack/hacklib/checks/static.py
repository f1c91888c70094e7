"""The static half of `make check`: lint, types, layers, sizes, shell, C format, generated files, dead code."""

import subprocess
import sys
from pathlib import Path

from hacklib.checks.steps import Step
from hacklib.paths import REPOSITORY

__all__ = ["static_steps"]

_MYPY_TARGETS = ("hami_dra", "hack/hacklib", "test")


def static_steps() -> list[Step]:
    """The steps, quick ones first."""
    programs = Path(sys.executable).parent
    shell = [name for name in _tracked() if _is_shell(REPOSITORY / name)]
    c_files = _tracked("*.c", "*.h")
    module = (sys.executable, "-m")
    scripts = ("hack/check", "hack/test")
    return [
        Step(name="ruff", command=(*module, "ruff", "check", "--quiet", ".", *scripts)),
        Step(name="format", command=(*module, "ruff", "format", "--check", "--quiet", ".")),
        Step(name="layers", command=(str(programs / "lint-imports"), "--no-cache")),
        Step(
            name="sizes",
            command=(*module, "hacklib.checks.sizes"),
            environment={"PYTHONPATH": str(REPOSITORY / "hack")},
        ),
        Step(name="shellcheck", command=(str(programs / "shellcheck"), *shell)),
        Step(name="clang-format", command=(str(programs / "clang-format"), "--dry-run", "--Werror", *c_files)),
        Step(name="generated", command=(sys.executable, "hack/generate", "--check")),
        Step(name="dead code", command=(*module, "vulture")),
        Step(name="types", command=(*module, "mypy", *_MYPY_TARGETS)),
    ]


def _tracked(*patterns: str) -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listing.stdout.splitlines() if (REPOSITORY / name).is_file()]


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash"))
