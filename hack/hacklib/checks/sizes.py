"""The house's rules that no linter has: sizes of files and functions, keyword-only parameters, a sentence for each test.

Run as a module; prints one line for each violation and ends with status 1 if there is one.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hacklib.paths import REPOSITORY

__all__ = ["violations"]

_PYTHON_FILE_LINES = 400
_C_FILE_LINES = 600
_FUNCTION_LINES = 60
_POSITIONAL_PARAMETERS = 3

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def violations(path: Path, text: str) -> Iterator[str]:
    """What is wrong with one source file, each as `path:line: what`."""
    lines = text.count("\n")
    limit = _PYTHON_FILE_LINES if _is_python(path, text) else _C_FILE_LINES
    if lines > limit:
        yield f"{path}:1: {lines} lines, at most {limit}"
    if not _is_python(path, text):
        return
    tree = ast.parse(text)
    is_test = path.parts[0] == "test"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _function(path, node, is_test=is_test)
        if not is_test and isinstance(node, ast.Call) and _name(node.func) == "Thread" and path.name != "threads.py":
            yield f"{path}:{node.lineno}: a thread outside of hami_dra/_lib/threads.py"


def _function(path: Path, node: _Function, *, is_test: bool) -> Iterator[str]:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > _FUNCTION_LINES:
        yield f"{path}:{node.lineno}: {node.name} has {length} lines, at most {_FUNCTION_LINES}"
    if is_test:
        if node.name.startswith("test_") and not ast.get_docstring(node):
            yield f"{path}:{node.lineno}: {node.name} has no sentence that says what holds"
        return
    positional = [name.arg for name in node.args.args if name.arg not in {"self", "cls"}]
    if len(positional) > _POSITIONAL_PARAMETERS and not node.name.startswith("_"):
        yield f"{path}:{node.lineno}: {node.name} takes {len(positional)} positional parameters: make them keyword-only"


def _name(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _is_python(path: Path, text: str) -> bool:
    return path.suffix == ".py" or (not path.suffix and text.startswith("#!/usr/bin/env python3"))


def main() -> int:
    """Check every tracked source file."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py", "*.c", "*.h", "hack/*"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[str] = []
    for name in sorted(set(listing.stdout.splitlines())):
        path = REPOSITORY / name
        if "_gen" in path.parts or not path.is_file() or (path.suffix and path.suffix not in {".py", ".c", ".h"}):
            continue
        found += violations(Path(name), path.read_text(encoding="utf-8"))
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
