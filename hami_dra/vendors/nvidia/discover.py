"""What a node with NVIDIA's driver has, as an `Inventory`.

NVML says which cards there are, the driver root which files containers need, sysfs where a card sits.  A card that cannot be
used (no memory of its own, in MIG mode that this process may not configure, fallen off the bus) is left out with a warning that
names it; a driver that is not there yet is a `DriverError`, and whoever asks tries again later.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from hami_dra.core.errors import DriverError, DriverUnloaded
from hami_dra.core.figures import Figures
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import DriverFiles, Gpu, Inventory, MigSupport, device_name
from hami_dra.vendors.nvidia.driver_root import NVML, Root
from hami_dra.vendors.nvidia.library import Card, Nvml
from hami_dra.vendors.nvidia.partitions import MigPartitions
from hami_dra.vendors.nvidia.sensor import NvidiaSensor
from hami_dra.vendors.nvidia.session import Session
from hami_dra.vendors.pci import has_accelerator, numa_node, pcie_root

__all__ = ["NvidiaDiscovery"]

_log = logging.getLogger(__name__)

_VENDOR = "nvidia"
_PCI_VENDOR = 0x10DE
_ENVIRONMENT = (("NVIDIA_VISIBLE_DEVICES", "void"),)
"""Keeps NVIDIA's own runtime hook from adding every card of the node to images that ask for it."""


class NvidiaDiscovery:
    """The vendor NVIDIA.  `discover` is not for several threads at once, but others may use `figures` and `session`."""

    def __init__(
        self,
        *,
        driver: Root,
        devices: Root | None = None,
        sysfs: Path | None = None,
        proc: Path = Path("/proc"),
        simulated: bool = False,
        open_library: Callable[[Path], Nvml] = Nvml,
    ) -> None:
        """Look below these roots.

        Args:
            driver: the driver root: libraries and, unless `devices` says otherwise, device files.
            devices: root of the device files, where the driver root has none.
            sysfs: where sysfs is mounted; None where NUMA nodes and PCIe roots are not wanted.
            proc: where procfs is mounted: it names the device files of MIG instances.
            simulated: what the attribute `simulated` of the devices says; nothing else depends on it.
            open_library: opens a session with the NVML library at a path.
        """
        self._driver = driver
        self._devices = devices or driver
        self._sysfs = sysfs
        self._simulated = simulated
        self._session = Session(lambda: open_library(driver.find_library(NVML)))
        self._partitions = MigPartitions(session=self._session, devices=self._devices, proc=proc)
        self._card_files: tuple[str, ...] = ()
        self._warned: set[str] = set()
        self._unloaded = False
        self._incomplete = False
        """A card did not answer the last look."""
        self.loads = 0
        """How often the driver was seen to be loaded again."""

    @property
    def name(self) -> str:
        """What its cards say of their vendor."""
        return _VENDOR

    def present(self) -> bool:
        """Whether one of its cards is in this machine; where nobody can tell, it is."""
        return self._sysfs is None or has_accelerator(self._sysfs, _PCI_VENDOR)

    def discover(self) -> Inventory:
        """Look at the hardware.

        Raises:
            DriverError: the driver does not work (yet).
        """
        try:
            return self._look()
        except (OSError, ValueError) as error:
            raise DriverError(f"cannot look at the driver below {self._driver.path}: {error}") from error

    def close(self) -> None:
        """End the session with NVML; the next call opens another."""
        self._session.close()

    @property
    def partitions(self) -> MigPartitions:
        """Makes and removes the MIG partitions of its cards."""
        return self._partitions

    def sensor(self) -> NvidiaSensor:
        """Who tells of the health of its cards."""
        return NvidiaSensor(self)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have `callback` called before a session ends, while nobody else uses it."""
        self._session.on_close(callback)

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """The session stays open for the block.

        Raises:
            DriverError: none is open (yet).
        """
        with self._session.joined() as nvml:
            if nvml is None:
                raise DriverError("no session with the driver is open at the moment")
            try:
                yield
            except DriverUnloaded:
                self._unloaded = True
                raise

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """What the processes of a card used since then; None for nothing new, and while no session is open.

        Raises:
            DriverError: the card does not answer.
        """
        with self._session.joined() as nvml:
            return None if nvml is None else nvml.figures(uuid, since_us=since_us)

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> Mapping[int, int] | None:
        """Bytes of the card, or of a MIG device of it, that each process holds.

        None while no session is open, and for drivers that do not tell.

        Raises:
            DriverError: the card does not answer.
        """
        with self._session.joined() as nvml:
            return None if nvml is None else nvml.memory(partition or uuid)

    def _look(self) -> Inventory:
        common = self._devices.common_devices()
        files = self._devices.card_files()
        if files != self._card_files or self._incomplete:
            self.close()  # cards that came, went or came back are only seen by a new session
            self._card_files = files
        try:
            with self._session.opened() as nvml:
                version = nvml.driver_version()
                count = nvml.count()
                cards = [card for index in range(count) if (card := self._card(nvml, index)) is not None]
                cuda = nvml.cuda_version()
        except DriverError as error:
            self._unloaded = self._unloaded or isinstance(error, DriverUnloaded)
            self.close()
            raise
        self._incomplete = len(cards) < count
        if self._unloaded:
            self._unloaded = False
            self.loads += 1
        gpus = [gpu for card in cards if (gpu := self._gpu(card, version, cuda)) is not None]
        driver = DriverFiles(libraries=self._driver.libraries(version), device_files=common, environment=_ENVIRONMENT)
        return Inventory(gpus=tuple(sorted(gpus, key=lambda gpu: gpu.pci_address)), drivers={_VENDOR: driver})

    def _card(self, nvml: Nvml, index: int) -> Card | None:
        try:
            return nvml.card(index)
        except DriverUnloaded:
            raise  # of no card alone
        except DriverError as error:
            self._warn(f"GPU {index}", str(error))
            return None

    def _gpu(self, card: Card, version: str, cuda: tuple[int, int] | None) -> Gpu | None:
        file = None if card.minor is None else self._devices.device(f"nvidia{card.minor}")
        if card.memory_bytes is None or (card.mig_enabled and card.mig is None) or file is None:
            self._warn(f"GPU {card.index} ({card.name}, {card.uuid}, {card.pci_bus_id})", _obstacle(card))
            return None
        pci = _short_address(card.pci_bus_id)
        return Gpu(
            name=device_name(pci),
            uuid=GpuUuid(card.uuid),
            vendor=_VENDOR,
            product_name=card.name,
            memory_bytes=card.memory_bytes,
            pci_address=pci,
            minor=card.minor,
            index=card.index,
            brand=card.brand,
            architecture=card.architecture,
            compute_capability=card.compute_capability,
            driver_version=version,
            cuda_driver_version=cuda,
            numa_node=numa_node(self._sysfs, pci) if self._sysfs else None,
            pcie_root=pcie_root(self._sysfs, pci) if self._sysfs else None,
            simulated=self._simulated,
            device_files=(file,),
            mig=self._mig(card, device_name(pci)),
            instances=card.instances,
        )

    def _mig(self, card: Card, name: DeviceName) -> MigSupport | None:
        """What it can do of MIG, by what became of earlier switches too."""
        if card.mig is None or not self._partitions.is_fixed(name, enabled=card.mig_enabled):
            return card.mig
        return replace(card.mig, switchable=False)

    def _warn(self, who: str, why: str) -> None:
        """Say once that a card is left out."""
        message = f"{who} is left out: {why}"
        if message not in self._warned:
            self._warned.add(message)
            _log.warning("%s", message)


def _obstacle(card: Card) -> str:
    """Why a card cannot be shared."""
    if card.memory_bytes is None:
        return "the driver does not report memory of its own for it, so it cannot be shared"
    if card.mig_enabled and card.mig is None:
        return (
            "MIG is switched on, so it cannot be used as one device, and this process may not configure it:"
            " that takes root and /dev/nvidia-caps/nvidia-cap1"
        )
    return f"its device file /dev/nvidia{'?' if card.minor is None else card.minor} is not there"


def _short_address(bus_id: str) -> str:
    """`0000:17:00.0` for NVML's `00000000:17:00.0`, as sysfs and the attribute pciBusID spell it."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"
