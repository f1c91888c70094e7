"""Runs CMake and ninja over native/, one build folder for each preset.

release  zig cc against glibc 2.17, so that the libraries load in old images
asan     the host's compiler with AddressSanitizer and UndefinedBehaviorSanitizer; on hosts without one zig cc with the latter
tsan     the host's compiler with ThreadSanitizer
arm64    release, for arm64 whatever the host is
The output folder of a preset holds `libhami_guard.so` and `simgpu/`.  A build that has nothing to do takes a moment;
two builds of one preset at once wait for each other.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from hacklib.native.headers import cuda_include_dir
from hacklib.paths import REPOSITORY, native_dir
from hacklib.toolchain import find, zig_cc
from hacklib.ui import HackError, Ui, run_logged

__all__ = ["PRESETS", "Preset", "build", "output_dir"]

Preset = Literal["release", "asan", "tsan", "arm64"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
GLIBC_FLOOR = "2.17"
SANITIZERS: dict[Preset, str] = {"release": "", "asan": "address,undefined", "tsan": "thread", "arm64": ""}
ZIG_SANITIZERS: dict[Preset, str] = {"release": "", "asan": "undefined", "arm64": ""}
"""zig brings the run-time parts of these only."""


def output_dir(preset: Preset) -> Path:
    """Where the libraries of `preset` lie once they are built."""
    return native_dir() / preset


def build(*, preset: Preset, ui: Ui, targets: Sequence[str] = ()) -> Path:
    """Build what is out of date and return the output directory.

    Raises HackError, with the compiler's words, when something does not compile.
    """
    output = output_dir(preset)
    output.mkdir(parents=True, exist_ok=True)
    headers = cuda_include_dir(ui=ui)
    with _locked(output / ".lock"), ui.task(f"native libraries ({preset})") as task:
        work = output / "build"
        log = output / "build.log"
        log.unlink(missing_ok=True)
        configure = _configure_command(preset, work=work, headers=headers)
        stamp = work / ".configured"
        key = hashlib.sha256(json.dumps(configure).encode()).hexdigest()
        if not stamp.is_file() or stamp.read_text(encoding="ascii") != key:
            shutil.rmtree(work, ignore_errors=True)
            run_logged(configure, log=log)
            stamp.write_text(key, encoding="ascii")
        run_logged([find("ninja").path, "-C", work, "-j", _jobs(), *targets], log=log, on_line=task.update)
    return output


def _configure_command(preset: Preset, *, work: Path, headers: Path) -> list[str]:
    host = _host_compiler() if SANITIZERS[preset] else None
    if host is None and preset not in ZIG_SANITIZERS:
        raise HackError(f"preset {preset} needs the host's clang or gcc, found neither; install one of them")
    return [
        str(find("cmake").path),
        *("-S", str(REPOSITORY / "native"), "-B", str(work), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={find('ninja').path}",
        f"-DCMAKE_C_COMPILER={host or _zig_wrapper(preset)}",
        "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
        f"-DHAMI_SANITIZE={(SANITIZERS if host else ZIG_SANITIZERS)[preset]}",
        f"-DHAMI_OUTPUT_DIR={output_dir(preset)}",
        f"-DHAMI_CUDA_INCLUDE_DIR={headers}",
        f"-DHAMI_PYTHON={Path(sys.executable).resolve()}",
        *(("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64") if preset == "arm64" else ()),
    ]


def _host_compiler() -> Path | None:
    found = next(filter(None, map(shutil.which, ("clang", "gcc", "cc"))), None)
    return Path(found) if found else None


def _zig_wrapper(preset: Preset) -> Path:
    """A program that is zig's C compiler: CMake wants one without arguments of its own."""
    floor = "" if SANITIZERS[preset] else f".{GLIBC_FLOOR}"
    machine = "aarch64" if preset == "arm64" else platform.machine()
    words = zig_cc(target=f"{machine}-linux-gnu{floor}")
    wrapper = output_dir(preset) / "zig-cc"
    script = f"""#!/bin/sh\nexec {" ".join(f"'{word}'" for word in words)} "$@"\n"""
    if not wrapper.is_file() or wrapper.read_text(encoding="utf-8") != script:
        wrapper.write_text(script, encoding="utf-8")
        wrapper.chmod(0o755)
    return wrapper


def _jobs() -> str:
    return str(min(len(os.sched_getaffinity(0)), 16))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
