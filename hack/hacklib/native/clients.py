"""Python environments of the CUDA and NVML clients that the tests run: programs that nobody here wrote.

They do not go together in one environment (two majors of cuda-bindings, old numpy), so each group of
`test/native/clients/environments.toml` has one, made once for each list of packages.  Two that make the same one at once wait
for each other.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hacklib.native.build import build
from hacklib.native.headers import cuda_include_dir
from hacklib.paths import REPOSITORY, cache_dir
from hacklib.ui import HackError, Ui

__all__ = ["Group", "client_python", "groups"]

_LIST = REPOSITORY / "test" / "native" / "clients" / "environments.toml"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Packages that share an environment; `source` names one of them that PyPI has as source only."""

    name: str
    packages: Sequence[str]
    source: str | None = None
    below_python: str | None = None
    """The first Python for which the packages have no wheels."""

    @property
    def lacking(self) -> str | None:
        """What this machine lacks for the group, in words, or None."""
        running = ".".join(map(str, sys.version_info[:2]))
        if self.below_python and sys.version_info[:2] >= tuple(map(int, self.below_python.split("."))):
            return f"{self.packages[0]} has no wheels for Python {running}"
        if self.source and not shutil.which("g++"):
            return f"{self.source} is compiled here and needs g++"
        if self.source and not Path(sysconfig.get_path("include"), "Python.h").is_file():
            return f"{self.source} is compiled here and needs Python.h of Python {running}"
        return None

    @property
    def directory(self) -> Path:
        """Where its environment is."""
        what = repr((sys.executable, sys.version_info[:3], sorted(self.packages), self.source))
        return cache_dir() / "clients" / f"{self.name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}"


def groups() -> dict[str, Group]:
    """All groups by name."""
    table = tomllib.loads(_LIST.read_text(encoding="utf-8"))
    return {
        name: Group(name=name, packages=row["packages"], source=row.get("source"), below_python=row.get("below_python"))
        for name, row in table.items()
    }


def client_python(group: Group, *, ui: Ui) -> Path:
    """The Python of a group's environment, which is made at the first call.

    Raises HackError when its packages cannot be had, or this machine lacks something to compile one.
    """
    if group.lacking:
        raise HackError(group.lacking)
    directory = group.directory
    python = directory / "bin" / "python"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / ".complete").exists():
            with ui.task(f"packages of {group.name}"):
                shutil.rmtree(directory, ignore_errors=True)
                _run(sys.executable, "-m", "venv", directory)
                _run(python, *_INSTALL, *group.packages)
                if group.source:
                    _install_source(group.source, python=python, ui=ui)
                (directory / ".complete").touch()
    return python


_INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def _install_source(requirement: str, *, python: Path, ui: Ui) -> None:
    """Compile a package that is linked to libcuda, against the simulated one and without optimisation."""
    driver = build(preset="release", ui=ui, targets=["simgpu"]) / "simgpu" / "libcuda.so.1"
    includes = [str(cuda_include_dir(ui=ui))]
    includes += [str(header.parent) for header in python.parents[1].rglob("cudaProfiler.h")]
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "libcuda.so").symlink_to(driver)
        settings = {
            "CUDA_INC_DIR": includes,
            "CUDADRV_LIB_DIR": [home],
            "CUDA_ENABLE_CURAND": False,
            "CXXFLAGS": ["-O0", "-g0", "-w"],
        }
        defaults = Path(home) / ".aksetup-defaults.py"
        defaults.write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()), encoding="utf-8")
        compilers = {"HOME": home, "CC": "g++", "CXX": "g++", "LDSHARED": "g++ -shared"}
        _run(python, *_INSTALL, "--no-build-isolation", "--no-cache-dir", requirement, environment=compilers)


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=os.environ | (environment or {}), capture_output=True, text=True, check=False)
    if done.returncode:
        words = " ".join(map(str, command))
        raise HackError(f"{words} failed with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
