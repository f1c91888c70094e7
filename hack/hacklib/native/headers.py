"""The CUDA driver's and NVML's public headers, from their PyPI wheels.

They are needed to compile and are NVIDIA's to distribute, so they live in the cache and never in the tree.  Pinned:
the names that a header declares decide what the generators of native/ emit.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from hacklib.paths import native_dir
from hacklib.ui import HackError, Ui

__all__ = ["WHEELS", "cuda_include_dir"]

WHEELS = ("nvidia-cuda-runtime==13.5.37", "nvidia-nvml-dev==13.5.37")


def cuda_include_dir(*, ui: Ui) -> Path:
    """The directory with cuda.h, cudaTypedefs.h and nvml.h, downloaded at the first call.

    Raises HackError when the wheels cannot be had.
    """
    target = native_dir() / "headers" / "_".join(wheel.partition("==")[2] for wheel in WHEELS)
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with ui.task("CUDA headers"), tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            _unpack(_download(Path(scratch)), into=Path(scratch) / "include")
            try:
                (Path(scratch) / "include").rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    return target


def _download(folder: Path) -> list[Path]:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    result = subprocess.run([*pip, "--dest", folder, *WHEELS], capture_output=True, text=True, check=False)
    if result.returncode:
        raise HackError(f"the CUDA headers ({', '.join(WHEELS)}) could not be downloaded from PyPI:\n{result.stderr}")
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
