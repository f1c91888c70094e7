"""A machine with AMD's GPUs as the kernel shows it: sysfs, KFD's topology and device files below a directory.

What is written where follows the kernel's documentation and what was recorded on such machines.  `cut` does to the tree what the
kernel does when a card's compute mode changes: partitions, their xcp devices and KFD nodes are numbered anew; a card's own render
node, which is that of its first partition, stays.
"""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MI210", "MI300X", "AmdCard", "AmdMachine", "AmdModel"]

_GIB = 1 << 30
_FIRST_RENDER = 128
_PARTS = {"SPX": 1, "DPX": 2, "QPX": 4, "CPX": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdModel:
    """A kind of card."""

    device_id: int
    product: str
    gfx_version: int
    compute_units: int
    memory_bytes: int
    modes: tuple[str, ...] = ()
    """Compute modes that it can be switched to; none where the card cannot be cut."""


MI210 = AmdModel(
    device_id=0x740F,
    product="AMD Instinct MI210",
    gfx_version=90010,
    compute_units=104,
    memory_bytes=64 * _GIB,
)
MI300X = AmdModel(
    device_id=0x74A1,
    product="AMD Instinct MI300X OAM",
    gfx_version=90402,
    compute_units=304,
    memory_bytes=196592 << 20,
    modes=("SPX", "DPX", "QPX", "CPX"),
)


@dataclass(slots=True, kw_only=True)
class AmdCard:
    """One card of a machine."""

    model: AmdModel
    pci: str
    mode: str = "SPX"
    memory_mode: str = "NPS1"
    unique_id: int | None = None
    ras: bool = False
    """Whether the kernel counts its errors."""
    uncorrected: int = 0
    corrected: int = 0
    """Errors of its memory since the driver was loaded."""
    bad_pages: str = ""
    """The state of each page of its memory that broke: R retired, P to be retired, F that cannot be."""

    @property
    def parts(self) -> int:
        """Into how many partitions it is cut."""
        return _PARTS[self.mode]


class AmdMachine:
    """Write the machine's files below `root`, whose `sys` and `dev` are those of the machine."""

    def __init__(self, root: Path, *cards: AmdCard, version: str | None = "6.12.12.60402") -> None:
        """`version` is that of the driver; None: it comes with the kernel."""
        self.root = root
        self.sysfs = root / "sys"
        self.cards = cards
        self.busy: set[str] = set()
        """Cards that a process uses."""
        self.switches = 0
        self.topology = self.sysfs / "class/kfd/kfd/topology"
        self._generation = 0
        self._version = version
        self.write()

    def card(self, pci: str) -> AmdCard:
        """The card at that address."""
        return next(card for card in self.cards if card.pci == pci)

    def directory(self, pci: str) -> Path:
        """The card's directory in sysfs."""
        domain, bus, _ = pci.split(":")
        return self.sysfs / f"devices/pci{domain}:{bus}/{pci}"

    def node(self, number: int) -> Path:
        """A node of KFD's topology."""
        return self.topology / "nodes" / str(number)

    def cut(self, pci: str, mode: str) -> None:
        """Switch a card to a compute mode, as a write to `current_compute_partition` does."""
        self.card(pci).mode = mode
        self.write()

    def unbind(self, pci: str) -> None:
        """The driver lets go of a card, as after a write to its `unbind`."""
        (self.sysfs / "bus/pci/drivers/amdgpu" / pci).unlink()

    def switch(self, file: Path, word: str) -> None:
        """Take a write to `current_compute_partition` as the kernel does, or refuse it with its error."""
        card = self.card(file.parent.name)
        if word not in card.model.modes or _PARTS[word] < int(card.memory_mode[-1]):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if card.pci in self.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.switches += 1
        self.cut(card.pci, word)

    def write(self) -> None:
        """Make the tree what the cards say."""
        for stale in (self.topology, self.root / "dev/dri", self.sysfs / "devices/platform"):
            shutil.rmtree(stale, ignore_errors=True)
        self._generation += 1
        _put(self.topology / "generation_id", str(self._generation))
        _put(self.topology / "system_properties", "platform_oem 0\nplatform_id 0\nplatform_rev 0\nnum_devices 0")
        _put(self.root / "dev/kfd", "")
        _put(self.sysfs / "module/amdgpu/srcversion", "533BB7E5866E52F63B9ACCB")
        if self._version is not None:
            _put(self.sysfs / "module/amdgpu/version", self._version)
        self._cpu()
        node, xcp = 1, 0
        for own, card in enumerate(self.cards, start=_FIRST_RENDER):
            self._pci(card, own)
            for part in range(card.parts):
                minor = _FIRST_RENDER + len(self.cards) + xcp if part else own
                if part:
                    (self.sysfs / f"devices/platform/amdgpu_xcp_{xcp}/drm/renderD{minor}").mkdir(parents=True)
                    xcp += 1
                self._gpu(node, card, part=part, minor=minor)
                _put(self.root / f"dev/dri/renderD{minor}", "")
                node += 1

    def _pci(self, card: AmdCard, minor: int) -> None:
        path = self.directory(card.pci)
        files = {
            "vendor": "0x1002",
            "device": f"0x{card.model.device_id:04x}",
            "class": "0x120000",
            "numa_node": "0",
            "product_name": card.model.product,
            "mem_info_vram_total": str(card.model.memory_bytes),
            "mem_info_vram_used": "0",
        }
        if card.unique_id is not None:
            files["unique_id"] = f"{card.unique_id:016x}"
        if card.model.modes:
            files |= {
                "current_compute_partition": card.mode,
                "available_compute_partition": ", ".join(card.model.modes),
                "current_memory_partition": card.memory_mode,
            }
        if card.ras:
            pages = (f"0x{number:08x} : 0x00001000 : {state}" for number, state in enumerate(card.bad_pages))
            files |= {
                "ras/umc_err_count": f"ue: {card.uncorrected}\nce: {card.corrected}\nde: 0",
                "ras/gfx_err_count": "ue: 0\nce: 0",
                "ras/gpu_vram_bad_pages": "\n".join(pages),
            }
        for name, content in files.items():
            _put(path / name, content)
        shutil.rmtree(path / "drm", ignore_errors=True)
        (path / f"drm/renderD{minor}").mkdir(parents=True)
        for folder in ("bus/pci/devices", "bus/pci/drivers/amdgpu"):
            link = self.sysfs / folder / card.pci
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(path, link.parent))

    def _cpu(self) -> None:
        _put(self.node(0) / "gpu_id", "0")
        _put(
            self.node(0) / "properties",
            "cpu_cores_count 64\nsimd_count 0\ngfx_target_version 0\nlocation_id 0\ndomain 0",
        )

    def _gpu(self, number: int, card: AmdCard, *, part: int, minor: int) -> None:
        domain, bus, rest = card.pci.split(":")
        place = int(bus, 16) << 8 | int(rest.partition(".")[0], 16) << 3 | part
        properties = {
            "cpu_cores_count": 0,
            "simd_count": card.model.compute_units // card.parts * 4,
            "simd_per_cu": 4,
            "num_xcc": max(1, 8 // card.parts),
            "gfx_target_version": card.model.gfx_version,
            "vendor_id": 0x1002,
            "device_id": card.model.device_id,
            "location_id": place,
            "domain": int(domain, 16),
            "drm_render_minor": minor,
            "local_mem_size": 0,
            "unique_id": card.unique_id or 0,
            "hive_id": 0,
        }
        _put(self.node(number) / "gpu_id", str(50000 + number))
        _put(self.node(number) / "name", "ip discovery")
        _put(self.node(number) / "properties", "\n".join(f"{name} {value}" for name, value in properties.items()))
        bank = {"heap_type": 1, "size_in_bytes": card.model.memory_bytes // card.parts, "flags": 0, "width": 8192}
        _put(self.node(number) / "mem_banks/0/properties", "\n".join(f"{name} {value}" for name, value in bank.items()))


def _put(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{content}\n" if content else "", encoding="utf-8")
