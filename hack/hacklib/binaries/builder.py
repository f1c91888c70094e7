"""Builds one unit of programs, once, whoever asks and however often.

A unit is built in a folder of its own and renamed into place, so that a folder with the right name is always whole.
Builders of the same unit wait for each other on a lock that dies with its holder; what a killed builder left is
removed by the next one.
"""

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hacklib import paths, toolchain
from hacklib.binaries import libseccomp
from hacklib.binaries.recipe import Target, Unit
from hacklib.ui import HackError, Task, Ui, run_logged

__all__ = ["build_unit", "is_built"]

_NEEDED_BYTES = 8 << 30
_GLIBC = "2.28"


def is_built(unit: Unit) -> bool:
    """Whether `build_unit` would return at once."""
    return _folder(unit).is_dir()


def build_unit(unit: Unit, *, ui: Ui) -> Path:
    """The `bin` folder of a unit, built if it is not there yet.  Raises HackError with the compiler's last words."""
    final = _folder(unit)
    if not final.is_dir():
        final.parent.mkdir(parents=True, exist_ok=True)
        with _lock(final.with_name(f"{final.name}.lock"), ui=ui):
            if not final.is_dir():
                _check_space(final.parent)
                _build(unit, final=final, ui=ui)
    return final / "bin"


def _folder(unit: Unit) -> Path:
    return paths.binaries_dir() / unit.key


@contextmanager
def _lock(path: Path, *, ui: Ui) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            ui.note(f"{path.stem} is being built by another process; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _NEEDED_BYTES:
        raise HackError(
            f"{folder} has {free >> 30} GiB free, building Kubernetes takes {_NEEDED_BYTES >> 30}: "
            f"make room or set {paths.CACHE_VARIABLE} to a folder on another disk"
        )


def _build(unit: Unit, *, final: Path, ui: Ui) -> None:
    work = final.with_name(f".building-{final.name}")
    shutil.rmtree(work, ignore_errors=True)
    module = work / "module"
    shutil.copytree(unit.module, module)
    shutil.copytree(unit.sources, module / unit.sources.name)
    log = final.with_name(f"{final.name}.log")
    log.unlink(missing_ok=True)
    with ui.task(f"building {unit.name}") as task:
        counter = _Counter(task)
        for target in unit.targets:
            task.update("counting packages")
            counter.start(_count_packages(target, module=module))
            _go_build(target, work=work, final=final, log=log, counter=counter)
        for program, names in unit.links:
            for name in names:
                (work / "bin" / name).symlink_to(program)
        shutil.rmtree(module)
        work.rename(final)


class _Counter:
    """Turns the lines of `go build -v` into progress: one a module downloaded, one a package compiled."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._total = 0
        self._compiled = 0

    def start(self, total: int) -> None:
        self._total, self._compiled = total, 0

    def line(self, text: str) -> None:
        if text.startswith("go: "):
            self._task.update(text.removeprefix("go: "))
        else:
            self._compiled += 1
            self._task.update(f"compiled {self._compiled} of at most {self._total} packages")


def _environment(*, cgo: bool) -> dict[str, str]:
    ours = {
        "GOCACHE": str(paths.go_dir() / "build"),
        "GOMODCACHE": str(paths.go_dir() / "mod"),
        "GOFLAGS": "-buildvcs=false -modcacherw -mod=readonly",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "1" if cgo else "0",
    }
    return os.environ | ours


def _count_packages(target: Target, *, module: Path) -> int:
    command = [str(toolchain.find("go").path), "list", "-deps", *target.packages]
    listed = subprocess.run(
        command, cwd=module, env=_environment(cgo=False), capture_output=True, text=True, check=False
    )
    if listed.returncode:
        raise HackError(f"the list of Go packages cannot be made (is Go's module proxy in reach?):\n{listed.stderr}")
    return len(listed.stdout.splitlines())


def _go_build(target: Target, *, work: Path, final: Path, log: Path, counter: _Counter) -> None:
    flags = ["-s", "-w", *(f"-X={name}={value}" for name, value in target.variables)]
    environment = _environment(cgo=target.needs_libseccomp)
    if target.needs_libseccomp:
        compiler = toolchain.zig_cc(target=f"{platform.machine()}-linux-gnu.{_GLIBC}")
        environment |= libseccomp.provide(work).environment(runtime_folder=final / "lib") | {"CC": " ".join(compiler)}
        flags += ["-linkmode=external"]
    output = work / "bin" / target.folder
    output.mkdir(parents=True, exist_ok=True)
    build = [
        "go",
        "build",
        "-v",
        "-trimpath",
        "-gcflags=all=-dwarf=false",
        f"-tags={target.tags}",
        f"-ldflags={' '.join(flags)}",
        "-o",
        f"{output}/",
    ]
    build[0] = str(toolchain.find("go").path)
    run_logged([*build, *target.packages], log=log, on_line=counter.line, cwd=work / "module", env=environment)
