"""Libraries and device files of a driver root, found by one path and named by another."""

import os
from pathlib import Path

import pytest

from hami_dra.core.errors import DriverError
from hami_dra.core.inventory import DeviceFile, Library
from hami_dra.vendors.nvidia import NvidiaDiscovery
from hami_dra.vendors.nvidia.discover import _short_address
from hami_dra.vendors.nvidia.driver_root import NVML, Root

VERSION = "570.124.06"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A driver root as NVIDIA's installer leaves it, without hardware."""
    directory = tmp_path / "usr" / "lib" / "x86_64-linux-gnu"
    directory.mkdir(parents=True)
    for stem in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler", "libnvidia-glcore"):
        (directory / f"{stem}.so.{VERSION}").touch()
    for stem in ("libcuda", "libnvidia-ml", "libnvidia-ptxjitcompiler"):
        (directory / f"{stem}.so.1").symlink_to(f"{stem}.so.{VERSION}")
    (directory / "libcuda.so").symlink_to("libcuda.so.1")
    (directory / "libcuda.so.560.35.03").touch()
    (directory / "libc.so.6").touch()
    (tmp_path / "dev").mkdir()
    return Root(path=tmp_path, host_path="/run/nvidia/driver")


def test_libraries_of_the_running_version_go_under_their_sonames(root: Root) -> None:
    """Every library of that version, named as programs ask for it; other versions and other libraries stay out."""
    where = "/run/nvidia/driver/usr/lib/x86_64-linux-gnu"
    assert root.libraries(VERSION) == (
        Library(host_path=f"{where}/libcuda.so.{VERSION}", names=("libcuda.so.1", "libcuda.so")),
        Library(host_path=f"{where}/libnvidia-glcore.so.{VERSION}", names=(f"libnvidia-glcore.so.{VERSION}",)),
        Library(host_path=f"{where}/libnvidia-ml.so.{VERSION}", names=("libnvidia-ml.so.1",)),
        Library(host_path=f"{where}/libnvidia-ptxjitcompiler.so.{VERSION}", names=("libnvidia-ptxjitcompiler.so.1",)),
    )


def test_a_missing_driver_is_named(root: Root) -> None:
    """An empty root, and one with libraries of another version, say what is not there and where."""
    with pytest.raises(DriverError, match=r"no libcuda\.so\.999 below"):
        root.libraries("999")
    with pytest.raises(DriverError, match="is this the right driver root"):
        Root(path=root.path / "dev").find_library(NVML)


def test_a_root_at_the_top_of_the_host(tmp_path: Path) -> None:
    """With the driver on the host itself, host paths begin at its root."""
    assert Root(path=tmp_path).on_host(tmp_path / "dev" / "nvidia0") == "/dev/nvidia0"


def test_device_files_must_be_there(root: Root) -> None:
    """Before the driver is loaded there is nothing to give to a container; then all that exist are given."""
    with pytest.raises(DriverError, match="/dev/nvidiactl and /dev/nvidia-uvm not below"):
        root.common_devices()
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-modeset", "nvidia0", "nvidia12", "nvidia-caps"):
        (root.path / "dev" / name).touch()
    assert [device.container_path for device in root.common_devices()] == [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-modeset",
    ]
    assert root.card_files() == ("nvidia0", "nvidia12")


def test_a_device_is_told_from_a_file_that_poses_as_one(root: Root) -> None:
    """Character devices become device nodes, the simulated driver's regular files bind mounts."""
    (root.path / "dev" / "nvidia0").touch()
    assert root.device("nvidia0") == DeviceFile(
        host_path="/run/nvidia/driver/dev/nvidia0", container_path="/dev/nvidia0", character=False
    )
    assert root.device("nvidia1") is None
    if os.geteuid() == 0:
        os.mknod(root.path / "dev" / "nvidia1", 0o020666, os.makedev(1, 3))
        device = root.device("nvidia1")
        assert device is not None
        assert device.character


def test_without_a_driver_discovery_says_so(tmp_path: Path) -> None:
    """A node on which the driver is still to come is an error to be tried again, not an empty node."""
    with pytest.raises(DriverError, match="is the driver loaded"):
        NvidiaDiscovery(driver=Root(path=tmp_path)).discover()


def test_nvmls_addresses_are_spelt_as_sysfs_does() -> None:
    """NVML's domain has eight digits, sysfs's has four, unless more are needed."""
    assert _short_address("00000000:17:00.0") == "0000:17:00.0"
    assert _short_address("0000000A:C1:00.0") == "000a:c1:00.0"
    assert _short_address("00010000:17:00.0") == "10000:17:00.0"
