"""Which cards are offered, whatever NVML says about them."""

import logging
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from hami_dra.core.errors import DriverError
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root
from hami_dra.vendors.nvidia.calls import call, optional, text
from hami_dra.vendors.nvidia.library import Card, Nvml

VERSION = "570.124.06"


def card(index: int = 0, *, bus: int = 0x17) -> Card:
    """A sound A100."""
    return Card(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA A100-SXM4-80GB",
        pci_bus_id=f"00000000:{bus:02X}:00.0",
        memory_bytes=80 << 30,
        minor=index,
        brand="Nvidia",
        architecture="Ampere",
        compute_capability=(8, 0),
        mig_enabled=False,
        mig=None,
        instances=(),
    )


class FakeNvml(Nvml):
    """NVML with these cards; an error in place of a card is what reading it raises."""

    def __init__(self, cards: list[Card | DriverError]) -> None:
        self.cards = cards
        self.closed = 0
        self.broken = False

    def close(self) -> None:
        """Count it."""
        self.closed += 1

    def driver_version(self) -> str:
        """A version, or an error when the session broke."""
        if self.broken:
            raise DriverError("cannot read the driver's version: GPU is lost")
        return VERSION

    def cuda_version(self) -> tuple[int, int] | None:
        """CUDA 12.8."""
        return (12, 8)

    def count(self) -> int:
        """How many."""
        return len(self.cards)

    def card(self, index: int) -> Card:
        """One of them."""
        found = self.cards[index]
        if isinstance(found, DriverError):
            raise found
        return found


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A driver root with device files for two cards."""
    libraries = tmp_path / "usr" / "lib64"
    libraries.mkdir(parents=True)
    for name in (f"libcuda.so.{VERSION}", "libcuda.so.1", "libnvidia-ml.so.1"):
        (libraries / name).touch()
    (tmp_path / "dev").mkdir()
    for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1"):
        (tmp_path / "dev" / name).touch()
    return Root(path=tmp_path)


def discovery(root: Root, nvml: FakeNvml) -> NvidiaDiscovery:
    """Discovery below that root with that NVML."""
    return NvidiaDiscovery(driver=root, open_library=lambda _path: nvml)


def test_cards_come_in_pci_order(root: Root) -> None:
    """Whatever NVML's order is, the inventory's is that of the bus, which survives reboots."""
    look = discovery(root, FakeNvml([card(0, bus=0x31), card(1, bus=0x17)])).discover()
    assert [(gpu.name, gpu.index) for gpu in look.gpus] == [("gpu-0000-17-00-0", 1), ("gpu-0000-31-00-0", 0)]
    assert look.gpus[0].cuda_driver_version == (12, 8)
    assert look.gpus[0].numa_node is None


def test_device_files_may_lie_apart_from_the_libraries(root: Root, tmp_path: Path) -> None:
    """As on read-only systems, whose driver directory has no `dev`: files are named as the host calls theirs."""
    host = tmp_path / "host"
    host.mkdir()
    (root.path / "dev").rename(host / "dev")
    nvml = FakeNvml([card(0)])
    apart = NvidiaDiscovery(
        driver=Root(path=root.path, host_path="/usr/local/glibc"),
        devices=Root(path=host, host_path="/"),
        open_library=lambda _path: nvml,
    ).discover()
    assert [file.host_path for file in apart.gpus[0].device_files] == ["/dev/nvidia0"]
    driver = apart.drivers["nvidia"]
    assert [file.host_path for file in driver.device_files] == ["/dev/nvidiactl", "/dev/nvidia-uvm"]
    assert driver.libraries[0].host_path.startswith("/usr/local/glibc/usr/lib64/libcuda.so.")
    with pytest.raises(DriverError, match="not below"):
        discovery(root, nvml).discover()


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (replace(card(1), memory_bytes=None), "does not report memory of its own"),
        (
            replace(card(1), mig_enabled=True),
            "MIG is switched on, so it cannot be used as one device, and this process may not",
        ),
        (replace(card(1), minor=7), "/dev/nvidia7 is not there"),
        (replace(card(1), minor=None), "/dev/nvidia? is not there"),
        (DriverError("cannot read GPU 1: GPU is lost"), "GPU is lost"),
    ],
)
def test_a_card_that_cannot_be_shared_is_left_out(
    root: Root, caplog: pytest.LogCaptureFixture, broken: Card | DriverError, why: str
) -> None:
    """One warning names the card and the reason, however often one looks, and the others are offered."""
    look = discovery(root, FakeNvml([card(0), broken]))
    with caplog.at_level(logging.WARNING):
        assert len(look.discover().gpus) == 1
        assert len(look.discover().gpus) == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("GPU 1")
    assert why in record.getMessage()


def test_a_session_that_broke_is_closed_and_opened_anew(root: Root) -> None:
    """An error of the driver ends the session, so that the next look starts from nothing."""
    nvml = FakeNvml([card()])
    look = discovery(root, nvml)
    look.discover()
    nvml.broken = True
    with pytest.raises(DriverError, match="GPU is lost"):
        look.discover()
    assert nvml.closed == 1
    nvml.broken = False
    assert len(look.discover().gpus) == 1


def test_cards_that_come_or_go_open_a_new_session(root: Root) -> None:
    """NVML sees only the cards of its start, so a change of the device files starts it again."""
    nvml = FakeNvml([card()])
    look = discovery(root, nvml)
    look.discover()
    look.discover()
    assert nvml.closed == 0
    (root.path / "dev" / "nvidia2").touch()
    look.discover()
    assert nvml.closed == 1


def test_what_cannot_be_understood_is_the_drivers_fault(root: Root) -> None:
    """An address that is none is an error to be tried again, not the end of the process."""
    with pytest.raises(DriverError, match="cannot look at the driver"):
        discovery(root, FakeNvml([replace(card(), pci_bus_id="nonsense")])).discover()


def test_errors_of_nvml_become_ours(tmp_path: Path) -> None:
    """Each call's error says what was tried and, where it is known, what to do; what is not supported is None."""

    def fail(code: int) -> None:
        raise pynvml.NVMLError(code)

    with pytest.raises(DriverError, match=r"cannot start NVML: Driver Not Loaded; the kernel driver is not loaded"):
        call("start NVML", lambda: fail(pynvml.NVML_ERROR_DRIVER_NOT_LOADED))
    assert optional("read GPU 0", lambda: fail(pynvml.NVML_ERROR_NOT_SUPPORTED)) is None
    with pytest.raises(DriverError, match="cannot read GPU 0: GPU is lost"):
        optional("read GPU 0", lambda: fail(pynvml.NVML_ERROR_GPU_IS_LOST))
    assert (text(b"text"), text("text")) == ("text", "text")
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    with pytest.raises(DriverError, match="cannot load"):
        Nvml(tmp_path / "libnvidia-ml.so.1")
