"""Python without any client's help: a program that calls the driver through ctypes sees its share and is held to it."""

import sys
from pathlib import Path

import pytest
from native.guard.harness import Container, Node, Programs, Share, make_share

GIB = 1 << 30

pytestmark = pytest.mark.native

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


def test_ctypes(container: Container) -> None:
    """Ctypes looks functions up by dlsym, in the library's handle and in the whole program."""
    assert _python(container, CTYPES) == ["2", "0", "0"]
