"""Finds what containers need of a driver: libraries and device files.

A driver root is a directory that looks like the root of a file system with the driver installed: the host's `/`, the directory
of a driver container, or the simulated driver.  This process sees it somewhere else than the host does, so every file is found
by one path and named by another.  Libraries are those of exactly the running driver's version; each goes into containers under
its soname, which the driver's installer left as a link beside it.
"""

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from hami_dra.core.errors import DriverError
from hami_dra.core.inventory import DeviceFile, Library

__all__ = ["NVML", "Root"]

NVML = "libnvidia-ml.so.1"

_LIBRARY_DIRS = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib",
    "lib",
)
_PROGRAM_DIRS = ("usr/bin", "bin", "usr/local/bin", "run/current-system/sw/bin", "opt/bin")
_REQUIRED_DEVICES = ("nvidiactl", "nvidia-uvm")
_OPTIONAL_DEVICES = ("nvidia-uvm-tools", "nvidia-modeset")
_CARD = re.compile(r"nvidia[0-9]+")
_PLAIN_NAMES = ("libcuda", "libnvidia-ml")
"""Libraries that programs also ask for without any version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A directory as this process sees it, and as the host calls it."""

    path: Path
    host_path: str = "/"

    def on_host(self, path: Path) -> str:
        """What the host calls a file below this root."""
        return f"{self.host_path.rstrip('/')}/{path.relative_to(self.path)}"

    def find_library(self, name: str) -> Path:
        """The first file of that name in the usual directories.

        Raises:
            DriverError: there is none.
        """
        for directory in _LIBRARY_DIRS:
            if (path := self.path / directory / name).exists():
                return path
        raise DriverError(
            f"there is no {name} below {self.path}: is the driver installed, and is this the right driver root?"
        )

    def find_program(self, name: str) -> Path:
        """The first file of that name in the usual directories.

        Raises:
            DriverError: there is none.
        """
        for directory in _PROGRAM_DIRS:
            if (path := self.path / directory / name).exists():
                return path
        raise DriverError(
            f"there is no program {name} below {self.path}: is that part of the driver installed, and is this the right"
            " driver root?"
        )

    def has_program(self, name: str) -> bool:
        """Whether `find_program` finds it."""
        return any((self.path / directory / name).exists() for directory in _PROGRAM_DIRS)

    def libraries(self, driver_version: str) -> tuple[Library, ...]:
        """All libraries of that version, from the directory in which libcuda lies.

        Raises:
            DriverError: libcuda of that version is not there.
        """
        suffix = f".so.{driver_version}"
        directory = self.find_library(f"libcuda{suffix}").parent
        files = sorted(
            path for path in directory.iterdir() if path.name.endswith(suffix) and path.name.startswith("lib")
        )
        names = {path.name for path in directory.iterdir()}
        return tuple(
            Library(host_path=self.on_host(path), names=_names(path.name.removesuffix(suffix), path.name, names))
            for path in files
        )

    def card_files(self) -> tuple[str, ...]:
        """Names of the cards' device files: a change of them is a change of the cards."""
        try:
            return tuple(sorted(path.name for path in (self.path / "dev").iterdir() if _CARD.fullmatch(path.name)))
        except FileNotFoundError:
            return ()

    def common_devices(self) -> tuple[DeviceFile, ...]:
        """Device files that every container needs.

        Raises:
            DriverError: one that nothing works without is not there yet.
        """
        required = [self.device(name) for name in _REQUIRED_DEVICES]
        missing = [name for name, device in zip(_REQUIRED_DEVICES, required, strict=True) if device is None]
        if missing:
            raise DriverError(
                f"/dev/{' and /dev/'.join(missing)} not below {self.path}: is the driver loaded (nvidia-modprobe -u -c 0)?"
            )
        found = required + [self.device(name) for name in _OPTIONAL_DEVICES]
        return tuple(device for device in found if device is not None)

    def device(self, name: str) -> DeviceFile | None:
        """The device file of that name, or None; a simulated driver poses with a regular one."""
        path = self.path / "dev" / name
        try:
            mode = path.stat().st_mode
        except OSError:
            return None
        return DeviceFile(host_path=self.on_host(path), container_path=f"/dev/{name}", character=stat.S_ISCHR(mode))


def _names(stem: str, full: str, present: set[str]) -> tuple[str, ...]:
    """The sonames of a library (`libcuda.so.1`), or its full name where it has none."""
    soname = re.compile(rf"{re.escape(stem)}\.so\.[0-9]+")
    found = sorted(name for name in present if soname.fullmatch(name))
    plain = [f"{stem}.so"] if stem in _PLAIN_NAMES and f"{stem}.so" in present else []
    return tuple(found + plain) or (full,)
