"""What sysfs says of PCI devices."""

from pathlib import Path

import pytest

from hami_dra.core.inventory import device_name
from hami_dra.vendors.pci import address, has_accelerator, numa_node, pcie_root


def device(sysfs: Path, **files: str) -> str:
    """A device below a root complex, with these files, and its link."""
    address = "0000:17:00.0"
    folder = sysfs / "devices/pci0000:16/0000:16:01.0" / address
    folder.mkdir(parents=True)
    for name, text in {"class": "0x030200\n", **files}.items():
        (folder / name).write_text(text)
    links = sysfs / "bus/pci/devices"
    links.mkdir(parents=True)
    (links / address).symlink_to(f"../../../devices/pci0000:16/0000:16:01.0/{address}")
    return address


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"vendor": "0x10de\n"}, True),
        ({"vendor": "0x10DE", "class": "0x120000"}, True),
        ({"vendor": "0x10de\n", "class": "0x040300\n"}, False),
        ({"vendor": "0x1002\n"}, False),
        ({"vendor": ""}, False),
        ({}, False),
    ],
)
def test_only_display_controllers_and_accelerators_of_the_vendor_count(
    tmp_path: Path, files: dict[str, str], *, there: bool
) -> None:
    """The audio function of a card, and what has no readable vendor, is no accelerator."""
    device(tmp_path, **files)
    assert has_accelerator(tmp_path, 0x10DE) is there


def test_a_machine_without_pci_has_no_accelerator(tmp_path: Path) -> None:
    """A missing sysfs is no error."""
    assert not has_accelerator(tmp_path, 0x10DE)
    assert numa_node(tmp_path, "0000:17:00.0") is None
    assert pcie_root(tmp_path, "0000:17:00.0") is None


@pytest.mark.parametrize(("text", "node"), [("1\n", 1), ("0", 0), ("-1\n", None), ("many", None)])
def test_a_card_sits_where_sysfs_says(tmp_path: Path, text: str, node: int | None) -> None:
    """The NUMA node is left out where the machine has no opinion; the root complex is the card's ancestor."""
    address = device(tmp_path, numa_node=text)
    assert numa_node(tmp_path, address) == node
    assert pcie_root(tmp_path, address) == "pci0000:16"


def test_a_name_leads_back_to_its_address() -> None:
    """Short and long domains."""
    for pci in ("0000:17:00.0", "10000:e1:00.3"):
        assert address(device_name(pci)) == pci
