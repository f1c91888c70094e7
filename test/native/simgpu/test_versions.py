"""A driver knows the functions of its version, and no newer ones: neither exported nor by cuGetProcAddress."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from native.guard.elf import read_library
from native.simgpu.node import Node

from hacklib.paths import REPOSITORY

NOT_FOUND = 500
SYMBOL_NOT_FOUND = 1
NAMES = REPOSITORY / "native" / "simgpu" / "names"


@dataclass(frozen=True, kw_only=True)
class Driver:
    """What one version of the driver has and has not."""

    version: str
    cuda: int
    known: tuple[str, ...]
    unknown: tuple[str, ...]


DRIVERS = [
    Driver(
        version="450.36",
        cuda=11000,
        known=("cuMemAlloc", "cuMemCreate", "cuGraphLaunch"),
        unknown=("cuMemAllocAsync", "cuGetProcAddress", "cuLaunchKernelEx", "cuLibraryLoadData"),
    ),
    Driver(
        version="520.61.05",
        cuda=11080,
        known=("cuMemAllocAsync", "cuGetProcAddress", "cuLaunchKernelEx", "cuGraphInstantiateWithFlags"),
        unknown=("cuLibraryLoadData", "cuGetProcAddress_v2", "cuKernelGetName", "cuGreenCtxCreate"),
    ),
    Driver(
        version="550.54.15",
        cuda=12040,
        known=("cuLibraryLoadData", "cuGreenCtxCreate", "cuGraphAddNode"),
        unknown=("cuEventElapsedTime_v2", "cuCheckpointProcessLock", "nvmlDeviceGetCapabilities"),
    ),
    Driver(
        version="580.65.06", cuda=13000, known=("cuCheckpointProcessLock", "cuMemAlloc"), unknown=("cuNoSuchThing",)
    ),
]


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.version)
def test_a_driver_knows_what_its_version_has(make_node: Callable[..., Node], driver: Driver) -> None:
    """cuDriverGetVersion, the exported names and both ABIs of cuGetProcAddress, of which old drivers have one or none."""
    node = make_node("--model", "A100", "--driver-version", driver.version)
    seen = node.client("versions", *driver.known, *driver.unknown).json
    assert seen["cuda"] == driver.cuda
    for name in driver.known:
        answers = seen["names"][name]
        assert (answers["exported"], answers.get("address", 0), answers.get("address_v2", 0)) == (True, 0, 0), name
    for name in driver.unknown:
        answers = seen["names"][name]
        assert not answers["exported"], name
        assert answers.get("address", NOT_FOUND) == answers.get("address_v2", NOT_FOUND) == NOT_FOUND, name
        assert answers.get("status", SYMBOL_NOT_FOUND) == SYMBOL_NOT_FOUND, name
    assert all(("address" in answers) == (driver.cuda >= 11030) for answers in seen["names"].values())
    assert all(("address_v2" in answers) == (driver.cuda >= 12000) for answers in seen["names"].values())


@pytest.mark.parametrize(
    ("library", "names"), [("libcuda.so.1", "cuda_550.txt"), ("libnvidia-ml.so.1", "nvml_550.txt")]
)
def test_driver_550_exports_the_names_of_driver_550(make_node: Callable[..., Node], library: str, names: str) -> None:
    """Not one more, not one less."""
    node = make_node("--model", "A100", "--driver-version", "550.54.15")
    exported = read_library(node.root / "usr" / "lib64" / library).exported
    assert exported == set((NAMES / names).read_text(encoding="ascii").split())
