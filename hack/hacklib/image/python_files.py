"""The running Python interpreter and installed wheels, as files of an image.

Found through `sys` and `sysconfig`, so that a Python of the distribution, of pyenv or of a container works alike.  In
the image the interpreter lies below /usr/local, where it finds its library by itself, and wheels lie in one folder
that PYTHONPATH names, because distributions disagree about where such a folder is.  Code is compiled beforehand: a
container's file system is read-only and its start must not take a second.
"""

import hashlib
import importlib.metadata
import importlib.util
import py_compile
import sys
import sysconfig
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from hacklib.image.tree import Tree
from hacklib.ui import HackError

__all__ = ["EXECUTABLE", "WHEELS", "add_interpreter", "add_source", "add_wheels", "closure", "compile_all"]

WHEELS = "opt/hami-dra/python"
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARY = f"usr/local/lib/{_VERSION}"
EXECUTABLE = f"/usr/local/bin/{_VERSION}"
_DEVELOPMENT = {
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "venv",
}
"""Folders that no program of ours imports at run time."""
_DEVELOPMENT_SUFFIXES = {".a", ".c", ".cu", ".h", ".hpp", ".o", ".pxd", ".pyc", ".pyi", ".pyx"}


def add_interpreter(tree: Tree) -> None:
    """The interpreter and its standard library."""
    tree.file(EXECUTABLE, Path(sys.executable).resolve())
    tree.link("/usr/local/bin/python3", target=_VERSION)
    for name in ("stdlib", "platstdlib"):
        folder = sysconfig.get_path(name, vars={"platbase": sys.base_exec_prefix, "base": sys.base_prefix})
        if folder != sysconfig.get_path("stdlib") or name == "stdlib":
            tree.copy(_LIBRARY, Path(folder), wanted=_is_runtime)


def add_wheels(tree: Tree, requirements: Iterable[str], *, left_out: Collection[str]) -> None:
    """The installed wheels that the requirements name, and those that they need, without the folders left out."""
    for distribution in closure(requirements):
        for file in distribution.files or []:
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or not _is_runtime(path):
                continue
            if any(path.is_relative_to(folder) for folder in left_out):
                continue
            source = Path(str(distribution.locate_file(file)))
            if source.is_file():
                tree.file(f"{WHEELS}/{path}", source)


def add_source(tree: Tree, package: Path) -> None:
    """A package of the repository, beside the wheels."""
    tree.copy(f"{WHEELS}/{package.name}", package, wanted=_is_runtime)


def closure(requirements: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions that satisfy the requirements, with all that they require on this machine, by name.

    Raises HackError if one is not installed, or is installed in a version that is not allowed.
    """
    found: dict[NormalizedName, importlib.metadata.Distribution] = {}
    seen: set[str] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        requirement = pending.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            distribution = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError as error:
            raise HackError(f"{requirement} is not installed: run hack/bootstrap") from error
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            raise HackError(f"{requirement} is asked for, {distribution.version} is installed: run hack/bootstrap")
        found[canonicalize_name(requirement.name)] = distribution
        pending += _needed_by(distribution, extras=requirement.extras)
    return [found[name] for name in sorted(found)]


def compile_all(tree: Tree, *, cache: Path) -> None:
    """Add the compiled form of every module in the tree; what was compiled before is taken from `cache`.

    The files say of themselves that they are never to be checked against the source (PEP 552), so they hold no time.
    """
    cache.mkdir(parents=True, exist_ok=True)
    jobs = {}
    for name, source in list(tree.sources()):
        if name.endswith(".py"):
            key = hashlib.sha256(f"{sys.implementation.cache_tag} {name}\0".encode() + source.read_bytes())
            jobs[name] = (source, cache / f"{key.hexdigest()[:32]}.pyc")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for name, (source, out) in jobs.items():
        if not out.exists():
            with suppress(py_compile.PyCompileError), warnings.catch_warnings(action="ignore"):
                py_compile.compile(str(source), cfile=str(out), dfile=f"/{name}", doraise=True, invalidation_mode=mode)
        if out.exists():  # templates that are no Python are packed as they are
            tree.file(importlib.util.cache_from_source(name), out)


def _needed_by(distribution: importlib.metadata.Distribution, *, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in distribution.requires or []:
        requirement = Requirement(text)
        asked = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(extra) for extra in asked):
            yield requirement


def _is_runtime(path: PurePosixPath) -> bool:
    if _DEVELOPMENT.intersection(path.parts) or path.suffix in _DEVELOPMENT_SUFFIXES:
        return False
    return not any(part.startswith("config-") for part in path.parts)
