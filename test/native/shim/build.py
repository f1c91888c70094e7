"""Builds the libraries that programs made for NVIDIA's runtime need, where only a driver is simulated.

`libcudart` is real (cudart.c): devices, memory, copies, streams, events and launches over the driver API.  The mathematical
libraries beside it are stand-ins: their functions exist and fail.  What names there have to be is read from the program's own
modules; a name that cudart.c does not define returns cudaErrorNotSupported.
"""

import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from native.guard.elf import read_library

__all__ = ["build_for_package", "build_runtime"]

HERE = Path(__file__).parent
NOT_SUPPORTED = 801
FAILED = 1
SONAME = re.compile(r"lib(cudart|cublas|curand|cufft|cusparse|cusolver|nvrtc)\.so\.[\d.]+")
PREFIX = {"cudart": "(__)?cuda"}
VERSION_OF_RUNTIME = {"libcudart.so.11.0": 11000, "libcudart.so.12": 12000}


def build_runtime(folder: Path, *, soname: str, driver: Path, headers: Path, compiler: Sequence[str | Path]) -> Path:
    """Build `libcudart` under its soname, which is its symbols' version too."""
    return _link(
        folder / soname,
        names=(),
        result=NOT_SUPPORTED,
        compiler=[*compiler, f"-DRUNTIME_VERSION={VERSION_OF_RUNTIME[soname]}", "-isystem", headers],
        sources=[HERE / "cudart.c", driver, "-lpthread"],
    )


def build_for_package(
    folder: Path, *, modules: Iterable[Path], driver: Path, headers: Path, compiler: Sequence[str | Path]
) -> None:
    """Build every library of CUDA that one of the modules, shared libraries all of them, is linked to."""
    wanted: dict[str, str] = {}
    imported: set[str] = set()
    for module in modules:
        library = read_library(module)
        imported |= library.imported
        wanted |= {found[0]: found[1] for found in map(SONAME.fullmatch, library.needed) if found}
    for soname, stem in wanted.items():
        names = sorted(name for name in imported if re.match(PREFIX.get(stem, stem) + "[A-Z]", name))
        if stem == "cudart":
            flags: list[str | Path] = [f"-DRUNTIME_VERSION={VERSION_OF_RUNTIME[soname]}", "-isystem", headers]
            sources: list[str | Path] = [HERE / "cudart.c", driver, "-lpthread"]
            _link(folder / soname, names=names, result=NOT_SUPPORTED, compiler=[*compiler, *flags], sources=sources)
        else:
            _link(folder / soname, names=names, result=FAILED, compiler=compiler, sources=[])


def _link(
    path: Path, *, names: Iterable[str], result: int, compiler: Sequence[str | Path], sources: Sequence[str | Path]
) -> Path:
    """Link a library of the sources, and of a weak function for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stubs = path.with_suffix(".c")
    stubs.write_text(
        "".join(f"__attribute__((weak)) int {name}(void) {{ return {result}; }}\n" for name in names)
        or "typedef int none;\n"
    )
    versions = path.with_suffix(".map")
    versions.write_text(f"{path.name} {{ global: *; }};\n")
    flags = ["-std=gnu17", "-shared", "-fPIC", "-O1", "-fvisibility=default", f"-Wl,-soname,{path.name}"]
    command = [*compiler, *flags, f"-Wl,--version-script={versions}", "-o", path, stubs, *sources]
    subprocess.run(command, check=True)
    return path
