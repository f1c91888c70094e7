"""The libraries load in old images and export what the real ones export."""

import ctypes
import platform
import re
import subprocess
from pathlib import Path

import pytest
from native.simgpu.node import Node

from hacklib.paths import REPOSITORY
from hacklib.toolchain import zig_cc

NAMES = REPOSITORY / "native" / "simgpu" / "names"
FLOOR = (2, 17)


@pytest.mark.parametrize("name", ["libcuda.so.1", "libnvidia-ml.so.1", "simctl"])
def test_nothing_newer_than_glibc_2_17_is_asked_for(simgpu: Path, name: str) -> None:
    """Every symbol version that the file mentions is at most the floor."""
    found = re.findall(rb"GLIBC_(\d+)\.(\d+)", (simgpu / name).read_bytes())
    assert found
    assert max((int(major), int(minor)) for major, minor in found) <= FLOOR


@pytest.mark.parametrize(
    ("library", "names"), [("libcuda.so.1", "cuda_550.txt"), ("libnvidia-ml.so.1", "nvml_550.txt")]
)
def test_every_name_of_the_real_library_exists(simgpu: Path, library: str, names: str) -> None:
    """A program that looks up any name of driver 550 finds a function."""
    handle = ctypes.CDLL(str(simgpu / library))
    missing = [name for name in (NAMES / names).read_text(encoding="ascii").split() if not hasattr(handle, name)]
    assert missing == []


def test_functions_that_are_not_simulated_say_so(simgpu: Path) -> None:
    """A stub answers CUDA_ERROR_NOT_SUPPORTED or NVML_ERROR_NOT_SUPPORTED."""
    assert ctypes.CDLL(str(simgpu / "libcuda.so.1")).cuGreenCtxDestroy(None) == 801
    assert ctypes.CDLL(str(simgpu / "libnvidia-ml.so.1")).nvmlDeviceSetFanSpeed_v2(None, 0, 0) == 3


def test_the_simulated_driver_calls_its_own_functions(node: Node, tmp_path: Path) -> None:
    """A preloaded library that exports cu* names is not called for what the driver does inside of itself."""
    source = tmp_path / "hook.c"
    source.write_text(
        "int cuMemcpyAsync(void) { __builtin_trap(); }\nint cuMemAllocFromPoolAsync(void) { __builtin_trap(); }\n"
    )
    hook = tmp_path / "hook.so"
    compiler = zig_cc(target=f"{platform.machine()}-linux-gnu.2.17")
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", hook, source], check=True)
    assert node.run([node.build / "exercise", "threads", "1", "1"], env={"LD_PRELOAD": str(hook)}).status == 0
