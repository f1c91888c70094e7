"""The CUDA driver's and NVML's public headers, from their PyPI wheels.

They are needed to compile and are NVIDIA's to distribute, so they live in the cache and never in the tree.  Pinned:
the names that a header declares decide what the generators of native/ emit.  The newest release is what the libraries are
built with; older ones are there to hold the guard's hooks to what programs of their time were compiled with.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from hacklib.paths import native_dir
from hacklib.ui import HackError, Ui

__all__ = ["NEWEST", "RELEASES", "WHEELS", "cuda_include_dir"]

RELEASES = {
    "11.8": ("nvidia-cuda-runtime-cu11==11.8.89", "nvidia-nvml-dev-cu11==11.8.86"),
    "12.9": ("nvidia-cuda-runtime-cu12==12.9.79", "nvidia-nvml-dev-cu12==12.9.79"),
    "13.5": ("nvidia-cuda-runtime==13.5.37", "nvidia-nvml-dev==13.5.37"),
}
NEWEST = "13.5"
WHEELS = RELEASES[NEWEST]


def cuda_include_dir(*, ui: Ui, release: str = NEWEST) -> Path:
    """The directory with cuda.h, cudaTypedefs.h and nvml.h of a release, downloaded at the first call.

    Raises HackError when the wheels cannot be had.
    """
    wheels = RELEASES[release]
    target = native_dir() / "headers" / "_".join(wheel.partition("==")[2] for wheel in wheels)
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with ui.task("CUDA headers"), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            _unpack(_download(wheels, folder=Path(scratch)), into=Path(scratch) / "include")
            try:
                (Path(scratch) / "include").rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    return target


def _download(wheels: Sequence[str], *, folder: Path) -> list[Path]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    result = subprocess.run([*pip, "--dest", folder, *wheels], capture_output=True, text=True, check=False)
    if result.returncode:
        raise HackError(f"the CUDA headers ({', '.join(wheels)}) could not be downloaded from PyPI:\n{result.stderr}")
    return sorted(folder.glob("*.whl"))


def _unpack(wheels: list[Path], *, into: Path) -> None:
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                _, found, relative = name.partition("/include/")
                if found and relative.endswith((".h", ".hpp")):
                    path = into / relative
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, path.open("wb") as out:
                        shutil.copyfileobj(source, out)
