"""What sysfs says of PCI devices, whoever made them: which vendors are there, and where a card sits."""

import re
from pathlib import Path

from hami_dra.core.ids import DeviceName

__all__ = ["address", "has_accelerator", "numa_node", "pcie_root"]

_DEVICES = "bus/pci/devices"
_PCIE_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_CLASSES = ("0x03", "0x12")
"""Display controllers and processing accelerators."""


def address(gpu: DeviceName) -> str:
    """`0000:17:00.0` for the card `gpu-0000-17-00-0`: the inverse of `core.inventory.device_name`."""
    domain, bus, device, function = gpu.removeprefix("gpu-").split("-")
    return f"{domain}:{bus}:{device}.{function}"


def has_accelerator(sysfs: Path, vendor: int) -> bool:
    """Whether a display controller or accelerator of the vendor with that PCI id is in this machine."""
    try:
        devices = list((sysfs / _DEVICES).iterdir())
    except OSError:
        return False
    return any(
        _word(device / "vendor") == f"0x{vendor:04x}" and _word(device / "class")[:4] in _CLASSES for device in devices
    )


def numa_node(sysfs: Path, pci: str) -> int | None:
    """The card's NUMA node, or None where the machine has no opinion (it says -1)."""
    try:
        number = int((sysfs / _DEVICES / pci / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return number if number >= 0 else None


def pcie_root(sysfs: Path, pci: str) -> str | None:
    """The root complex above the card: the first part of its path that looks like `pci0000:16`."""
    try:
        parts = (sysfs / _DEVICES / pci).resolve(strict=True).parts
    except OSError:
        return None
    return next((part for part in parts if _PCIE_ROOT.fullmatch(part)), None)


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip().lower()
    except OSError:
        return ""
