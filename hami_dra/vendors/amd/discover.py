"""What a node with AMD's driver has, as an `Inventory`.

sysfs says which cards amdgpu drives and what they are, KFD's topology which of them ROCm can compute on, and through which
render nodes.  ROCm's libraries come with the image, so that a container needs `/dev/kfd` and its render nodes only: KFD shows it
those GPUs whose render nodes its device cgroup lets it open, whatever its environment says.  A card that cannot be used is left
out with a warning that names it.
"""

import logging
import re
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from hami_dra.core.errors import DriverError
from hami_dra.core.figures import Figures
from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import DeviceFile, DriverFiles, Gpu, Holder, Inventory, device_name
from hami_dra.vendors.amd.health import AmdSensor
from hami_dra.vendors.amd.kfd import TOPOLOGY, KfdNode, card_nodes, read_nodes
from hami_dra.vendors.amd.partitions import AmdPartitions, support_of
from hami_dra.vendors.amd.text import entries, hexadecimal, number, text
from hami_dra.vendors.pci import has_accelerator, numa_node, pcie_root

__all__ = ["AmdDiscovery", "Roots"]

_log = logging.getLogger(__name__)

_VENDOR = "amd"
_PCI_VENDOR = 0x1002
_ENVIRONMENT = (("AMD_VISIBLE_DEVICES", "void"),)
"""Keeps AMD's own runtime hook from adding every card of the node to images that ask for it."""
_CARD = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.0")
_RENDER = re.compile(r"renderD(?P<minor>[0-9]{1,6})", re.ASCII)
_PRODUCTS = {0x740F: "AMD Instinct MI210", 0x74A1: "AMD Instinct MI300X", 0x74A2: "AMD Instinct MI308X"}
"""By PCI device id, for kernels that do not name the product."""
_BRANDS = ("Instinct", "Radeon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the kernel shows its cards."""

    sysfs: Path = Path("/sys")
    devices: Path | None = None
    """A directory that poses as the root of `/dev`, with regular files where there is no hardware; None: the real one."""
    host_devices: str = ""
    """What the host calls that directory."""

    def device(self, name: str) -> DeviceFile | None:
        """The device file `/dev/<name>`; the kernel made the real ones, so that only a pose can lack one."""
        path = f"/dev/{name}"
        if self.devices is None:
            return DeviceFile(host_path=path, container_path=path)
        try:
            mode = (self.devices / "dev" / name).stat().st_mode
        except OSError:
            return None
        host_path = f"{self.host_devices.rstrip('/')}{path}"
        return DeviceFile(host_path=host_path, container_path=path, character=stat.S_ISCHR(mode))


class AmdDiscovery:
    """The vendor AMD.  Not for several threads at once."""

    def __init__(
        self, roots: Roots, *, regions: Callable[[], Collection[str]] = tuple, simulated: bool = False
    ) -> None:
        """Look below these roots.

        Args:
            roots: where the kernel shows its cards.
            regions: the device memory that the kernel can cap for a pod.
            simulated: what the attribute `simulated` of the devices says; nothing else depends on it.
        """
        self._roots = roots
        self._regions = regions
        self._sysfs = roots.sysfs
        self._simulated = simulated
        self._partitions = AmdPartitions(sysfs=roots.sysfs, device=roots.device)
        self._warned: set[str] = set()

    @property
    def name(self) -> str:
        """What its cards say of their vendor."""
        return _VENDOR

    @property
    def partitions(self) -> AmdPartitions:
        """What cuts its cards."""
        return self._partitions

    def present(self) -> bool:
        """Whether one of its cards is in this machine."""
        return has_accelerator(self._sysfs, _PCI_VENDOR)

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:  # noqa: ARG002 - as the Protocol has it
        """None: the kernel counts engine time by open file, not by process and period."""
        return None

    def sensor(self) -> AmdSensor:
        """Who tells of the health of its cards."""
        return AmdSensor(self._sysfs)

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> None:
        """Not told: KFD counts memory by process, but cards are given whole, so there is no share to hold it against."""

    def discover(self) -> Inventory:
        """Look at the hardware.

        Raises:
            DriverError: amdgpu is not loaded, or has no KFD (yet).
        """
        bound = self._sysfs / "bus/pci/drivers/amdgpu"
        if not bound.is_dir():
            raise DriverError(f"{bound} is not there: the kernel driver amdgpu is not loaded (modprobe amdgpu)")
        kfd = self._roots.device("kfd")
        topology = self._sysfs / TOPOLOGY
        if kfd is None or not topology.is_dir():
            raise DriverError(f"amdgpu is loaded, but there is no /dev/kfd or no {topology}: is CONFIG_HSA_AMD on?")
        nodes = read_nodes(topology)
        version = text(self._sysfs / "module/amdgpu/version")
        found: list[Gpu] = []
        for match, path in entries(bound, _CARD):
            gpu = self._gpu(match[0], path, card_nodes(nodes, match[0]), version)
            if gpu is not None:
                found.append(replace(gpu, index=len(found)))
        driver = DriverFiles(device_files=(kfd,), environment=_ENVIRONMENT)
        return Inventory(gpus=tuple(found), drivers={_VENDOR: driver})

    def _gpu(self, pci: str, path: Path, nodes: list[KfdNode], version: str | None) -> Gpu | None:
        memory = number(path / "mem_info_vram_total") or _sum(node.memory_bytes for node in nodes)
        mig = support_of(path, nodes, memory_bytes=memory)
        minors = _render_minors(path, nodes, whole=mig is not None)
        files = [self._roots.device(f"dri/renderD{minor}") for minor in minors]
        present = tuple(file for file in files if file is not None)
        if not nodes or not memory or not minors or len(present) < len(files):
            self._warn(pci, _obstacle(nodes=nodes, memory=memory, minors=minors))
            return None
        product = _product(path, nodes)
        region = f"drm/{pci}/vram"
        held = (mig is not None or len(nodes) == 1) and region in self._regions()
        unique = hexadecimal(path / "unique_id")
        return Gpu(
            name=device_name(pci),
            # As ROCr names it, so that it can be compared with what programs see; older cards have no number of their own.
            uuid=GpuUuid(f"GPU-{unique:016x}" if unique else f"PCI-{pci}"),
            vendor=_VENDOR,
            product_name=product,
            memory_bytes=memory,
            pci_address=pci,
            brand=next((brand for brand in _BRANDS if brand in product), None),
            architecture=nodes[0].gfx,
            driver_version=version,
            numa_node=numa_node(self._sysfs, pci),
            pcie_root=pcie_root(self._sysfs, pci),
            simulated=self._simulated,
            holder=Holder.KERNEL if held else None,
            memory_region=region if held else None,
            mig=mig,
            device_files=present,
        )

    def _warn(self, pci: str, why: str) -> None:
        """Say once that a card is left out."""
        message = f"AMD GPU {pci} is left out: {why}"
        if message not in self._warned:
            self._warned.add(message)
            _log.warning("%s", message)


def _render_minors(path: Path, nodes: list[KfdNode], *, whole: bool) -> list[int]:
    """Of every partition, or of the one that a card is when it is made `whole`: that one is in its directory.

    Only KFD knows them all; an xcp device that it does not name is left from an earlier mode.
    """
    own = [int(match["minor"]) for match, _ in entries(path / "drm", _RENDER)]
    minors = [node.render_minor for node in nodes if node.render_minor is not None]
    if not whole and len(minors) == len(nodes):
        return minors
    return own if whole or len(nodes) == 1 else []


def _product(path: Path, nodes: list[KfdNode]) -> str:
    named = text(path / "product_name") or _PRODUCTS.get(hexadecimal(path / "device") or 0)
    return named or f"AMD {nodes[0].gfx}"


def _sum(sizes: Iterable[int | None]) -> int:
    return sum(size or 0 for size in sizes)


def _obstacle(*, nodes: list[KfdNode], memory: int, minors: list[int]) -> str:
    """Why a card cannot be used."""
    if not nodes:
        return "KFD does not list it: ROCm does not support it, or this process may not open its render node"
    if not memory:
        return "amdgpu does not report memory of its own for it"
    if not minors:
        return "no render node is known for each of its partitions"
    return f"not all of its render nodes {', '.join(f'/dev/dri/renderD{minor}' for minor in minors)} are there"
