"""Programs that are linked to a shared CUDA runtime find one that works on the simulated driver."""

import platform
import subprocess
from pathlib import Path

import pytest
from native.guard.elf import read_library
from native.shim.build import build_runtime
from native.simgpu.conftest import make_node, node, simgpu
from native.simgpu.node import Node

from hacklib.native.headers import cuda_include_dir
from hacklib.toolchain import zig_cc
from hacklib.ui import Ui

__all__ = ["make_node", "node", "simgpu"]

HERE = Path(__file__).parent


@pytest.mark.native
@pytest.mark.parametrize("soname", ["libcudart.so.11.0", "libcudart.so.12"])
def test_what_nvcc_makes_of_a_program_runs(node: Node, tmp_path: Path, soname: str) -> None:
    """Registration, launch, memory and the runtime's errors, by the runtime's name and symbol version."""
    compiler = [*zig_cc(target=f"{platform.machine()}-linux-gnu.2.17"), "-Wall", "-Wextra", "-Werror"]
    headers = cuda_include_dir(ui=Ui())
    runtime = build_runtime(
        tmp_path, soname=soname, driver=node.build / "libcuda.so.1", headers=headers, compiler=compiler
    )
    program = tmp_path / "program"
    subprocess.run([*compiler, "-o", program, HERE / "program.c", runtime], check=True)
    assert soname in read_library(program).needed
    places = f"{tmp_path}:{node.root / 'usr' / 'lib64'}"
    done = node.run([program], env={"LD_LIBRARY_PATH": places})
    assert (done.status, done.out, done.err) == (0, "ok\n", "")
