"""CUDA clients that nobody here wrote: each sees its share, is refused beyond it by its own error, and computes as before.

All of them run with 4 GiB of an 80 GiB card, hold 3, ask for 2 more, and give all back.
"""

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from native.clients.conftest import PROGRAMS
from native.clients.programs.common import GIB, SHARE
from native.guard.harness import Container, Node, Programs
from native.shim.build import build_for_package

from hacklib.native.headers import cuda_include_dir
from hacklib.toolchain import zig_cc
from hacklib.ui import Ui

SeenBy = Callable[..., dict[str, Any]]

pytestmark = [pytest.mark.native, pytest.mark.timeout(600)]  # the first run makes the environments

AS_A_SHARE = {"free": SHARE, "total": SHARE, "left": GIB, "same": True}


@pytest.fixture(autouse=True)
def observer(node: Node) -> Iterator[None]:
    """The card's own books: whatever the client does, the card never held more than the share."""
    yield
    (card,) = node.cards()
    assert 0 < card.peak_bytes <= SHARE
    assert card.used_bytes == 0


def test_cuda_bindings(seen_by: SeenBy) -> None:
    """NVIDIA's bindings, which resolve everything by cuGetProcAddress."""
    assert seen_by("cuda13", "bindings") == AS_A_SHARE | {
        "total_of_device": SHARE,
        "refused": ["CUDA_ERROR_OUT_OF_MEMORY"],
    }


def test_cuda_core(seen_by: SeenBy) -> None:
    """Its memory resource is a pool; NVRTC compiles its program, and cuLaunchKernelEx starts it."""
    assert seen_by("cuda13", "core") == AS_A_SHARE | {"refused": True}


def test_numba_cuda(seen_by: SeenBy) -> None:
    """It compiles, links and launches a kernel, and has all back after a reset of its context."""
    assert seen_by("cuda13", "numba_jit") == AS_A_SHARE | {"refused": True}


def test_pycuda(seen_by: SeenBy) -> None:
    """It is linked to libcuda."""
    assert seen_by("pycuda", "pycuda_arrays") == AS_A_SHARE | {"total_of_device": SHARE, "refused": [True, True]}


def test_the_runtime_module_of_cuda_python_12(seen_by: SeenBy) -> None:
    """The runtime API as that module writes it over the driver API."""
    assert seen_by("cuda12", "runtime12") == AS_A_SHARE | {"refused": ["cudaErrorMemoryAllocation"]}


def test_cupy(container: Container, python: Callable[[str], Path], tmp_path: Path, programs: Programs) -> None:
    """It is linked to a shared runtime, and so reaches the driver, and the guard, through another library."""
    interpreter = python("cupy110")
    build_for_package(
        tmp_path / "runtime",
        modules=sorted(interpreter.parents[1].glob("lib/python3*/site-packages/cupy*/**/*.so")),
        driver=programs.simgpu / "libcuda.so.1",
        headers=cuda_include_dir(ui=Ui()),
        compiler=zig_cc(target=f"{platform.machine()}-linux-gnu.2.17"),
    )
    libraries = f"{tmp_path / 'runtime'}:{container.driver['LD_LIBRARY_PATH']}"
    inside = replace(container, environment={**container.environment, "LD_LIBRARY_PATH": libraries})
    seen = json.loads(inside.run(interpreter, PROGRAMS / "cupy_arrays.py"))
    assert seen == AS_A_SHARE | {"total_of_device": SHARE, "refused": ["cudaErrorMemoryAllocation: out of memory"] * 2}
