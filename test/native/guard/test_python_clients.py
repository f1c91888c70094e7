"""Python programs that nobody here wrote see their share and are held to it."""

import sys
from pathlib import Path

import pytest
from native.guard.harness import Container, Node, Programs, Share, make_share

GIB = 1 << 30

pytestmark = pytest.mark.native

CUDA_BINDINGS = """
from cuda.bindings import driver

def check(answer):
    assert answer[0] == driver.CUresult.CUDA_SUCCESS, answer
    return answer[1] if len(answer) == 2 else answer[1:]

check(driver.cuInit(0))
check(driver.cuCtxSetCurrent(check(driver.cuDevicePrimaryCtxRetain(check(driver.cuDeviceGet(0))))))
print(*check(driver.cuMemGetInfo()))
first = check(driver.cuMemAlloc(3 << 30))
for call in (driver.cuMemAlloc, lambda size: driver.cuMemAllocManaged(size, 1), lambda size: driver.cuMemAllocAsync(size, 0)):
    print(call(2 << 30)[0].name)
print(*check(driver.cuMemGetInfo()))
check(driver.cuMemFree(first))
check(driver.cuMemAlloc(4 << 30))
"""

NUMBA = """
import numpy
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

print(*cuda.current_context().get_memory_info())
held = cuda.device_array(3 << 30, dtype=numpy.uint8)
try:
    cuda.device_array(2 << 30, dtype=numpy.uint8)
except CudaAPIError as error:
    print("OUT_OF_MEMORY" in str(error))
print(cuda.current_context().get_memory_info()[0])
del held
cuda.current_context().reset()
cuda.device_array(4 << 30, dtype=numpy.uint8)
"""

NVML = """
import pynvml

pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
for info in (pynvml.nvmlDeviceGetMemoryInfo(handle), pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)):
    print(info.total, info.free, info.used)
"""

CTYPES = """
import ctypes

cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
print(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t((4 << 30) + 1)))
print(cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(4 << 30)))
print(ctypes.CDLL(None).cuMemFree_v2(pointer))
"""


@pytest.fixture
def share(node: Node, tmp_path: Path) -> Share:
    """4 GiB of the only card."""
    return make_share(tmp_path, "share", uuid=node.cards()[0].uuid, memory_bytes=4 * GIB)


@pytest.fixture
def container(node: Node, programs: Programs, share: Share) -> Container:
    """A container with that share."""
    return Container(programs=programs, driver=node.environment, shares=[share.directory])


def _python(container: Container, script: str) -> list[str]:
    return container.run(sys.executable, "-W", "ignore", "-c", script).splitlines()


def test_cuda_bindings(container: Container) -> None:
    """NVIDIA's bindings resolve everything by cuGetProcAddress and are refused above the share."""
    assert _python(container, CUDA_BINDINGS) == [
        f"{4 * GIB} {4 * GIB}",
        *["CUDA_ERROR_OUT_OF_MEMORY"] * 3,
        f"{GIB} {4 * GIB}",
    ]


def test_numba(container: Container) -> None:
    """Numba sees the share, raises its own out-of-memory error, and has all back after a reset of the context."""
    assert _python(container, NUMBA) == [f"{4 * GIB} {4 * GIB}", "True", str(GIB)]


def test_nvml(container: Container) -> None:
    """nvidia-ml-py shows the share in both versions of the memory structure."""
    assert _python(container, NVML) == [f"{4 * GIB} {4 * GIB} 0"] * 2


def test_ctypes(container: Container) -> None:
    """Ctypes looks functions up by dlsym, in the library's handle and in the whole program."""
    assert _python(container, CTYPES) == ["2", "0", "0"]
