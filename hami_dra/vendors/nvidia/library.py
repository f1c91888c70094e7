"""NVML through pynvml: the session, and what it says about cards and processes; `vendors.nvidia.mig` has what it says about MIG.

pynvml asks the loader for `libnvidia-ml.so.1` and knows no other place; this module loads the library of the driver root
first, and the loader then answers with what is loaded under that name.
"""

import ctypes
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml

from hami_dra.core.errors import DriverError
from hami_dra.core.figures import Figures
from hami_dra.core.inventory import MigInstance, MigSupport
from hami_dra.vendors.nvidia.calls import UNSUPPORTED, call, optional, text
from hami_dra.vendors.nvidia.mig import MigCard, instances_of, support_of

__all__ = ["Card", "Nvml"]

_NOTHING_NEW = (
    *UNSUPPORTED,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INSUFFICIENT_SIZE,  # a process came between the two calls
)
_SAME_PERIOD_US = 60_000
"""Samples of one period differ by less, those of two by a sixth of a second or more."""
_FULL_PERCENT = 100
"""Drivers have been seen to report more: such a sample is no figure."""
_BRANDS = {
    pynvml.NVML_BRAND_QUADRO: "Quadro",
    pynvml.NVML_BRAND_TESLA: "Tesla",
    pynvml.NVML_BRAND_NVS: "NVS",
    pynvml.NVML_BRAND_GRID: "Grid",
    pynvml.NVML_BRAND_GEFORCE: "GeForce",
    pynvml.NVML_BRAND_TITAN: "Titan",
    pynvml.NVML_BRAND_NVIDIA_VAPPS: "NvidiaVApps",
    pynvml.NVML_BRAND_NVIDIA_VPC: "NvidiaVPC",
    pynvml.NVML_BRAND_NVIDIA_VCS: "NvidiaVCS",
    pynvml.NVML_BRAND_NVIDIA_VWS: "NvidiaVWS",
    pynvml.NVML_BRAND_NVIDIA_CLOUD_GAMING: "NvidiaCloudGaming",
    pynvml.NVML_BRAND_QUADRO_RTX: "QuadroRTX",
    pynvml.NVML_BRAND_NVIDIA_RTX: "NvidiaRTX",
    pynvml.NVML_BRAND_NVIDIA: "Nvidia",
    pynvml.NVML_BRAND_GEFORCE_RTX: "GeForceRTX",
    pynvml.NVML_BRAND_TITAN_RTX: "TitanRTX",
}
_ARCHITECTURES = {
    pynvml.NVML_DEVICE_ARCH_KEPLER: "Kepler",
    pynvml.NVML_DEVICE_ARCH_MAXWELL: "Maxwell",
    pynvml.NVML_DEVICE_ARCH_PASCAL: "Pascal",
    pynvml.NVML_DEVICE_ARCH_VOLTA: "Volta",
    pynvml.NVML_DEVICE_ARCH_TURING: "Turing",
    pynvml.NVML_DEVICE_ARCH_AMPERE: "Ampere",
    pynvml.NVML_DEVICE_ARCH_ADA: "Ada Lovelace",
    pynvml.NVML_DEVICE_ARCH_HOPPER: "Hopper",
    pynvml.NVML_DEVICE_ARCH_BLACKWELL: "Blackwell",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What NVML says about one card; None where it does not say."""

    index: int
    uuid: str
    name: str
    pci_bus_id: str
    memory_bytes: int | None
    minor: int | None
    brand: str | None
    architecture: str | None
    compute_capability: tuple[int, int] | None
    mig_enabled: bool
    mig: MigSupport | None
    instances: tuple[MigInstance, ...]


class Nvml:
    """One open session with NVML.  Not for several threads at once."""

    def __init__(self, library: Path) -> None:
        """Open a session with the library at that path.

        Raises:
            DriverError: it cannot be loaded or does not start.
        """
        try:
            self._loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise DriverError(f"cannot load {library}: {error}") from error
        call("start NVML", pynvml.nvmlInit)

    def close(self) -> None:
        """End the session; the library stays loaded."""
        call("stop NVML", pynvml.nvmlShutdown)

    def driver_version(self) -> str:
        """Version of the driver, for instance `570.124.06`."""
        return str(call("read the driver's version", pynvml.nvmlSystemGetDriverVersion))

    def cuda_version(self) -> tuple[int, int] | None:
        """The newest CUDA that the driver can do."""
        number = optional("read CUDA's version", pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return None if number is None else (number // 1000, number % 1000 // 10)

    def count(self) -> int:
        """How many cards there are, lost ones included."""
        return int(call("count the GPUs", pynvml.nvmlDeviceGetCount))

    def card(self, index: int) -> Card:
        """What is known of a card.

        Raises:
            DriverError: it does not answer, for instance because it fell off the bus.
        """
        what = f"read GPU {index}"
        handle = call(what, pynvml.nvmlDeviceGetHandleByIndex, index)
        memory = optional(what, pynvml.nvmlDeviceGetMemoryInfo, handle)
        brand = optional(what, pynvml.nvmlDeviceGetBrand, handle)
        architecture = optional(what, pynvml.nvmlDeviceGetArchitecture, handle)
        mig = MigCard(handle, f"GPU {index}")
        mode = mig.mode()
        support = None if mode is None else support_of(mig, mode)
        capability = optional(what, pynvml.nvmlDeviceGetCudaComputeCapability, handle)
        return Card(
            index=index,
            uuid=str(call(what, pynvml.nvmlDeviceGetUUID, handle)),
            name=str(call(what, pynvml.nvmlDeviceGetName, handle)),
            pci_bus_id=text(call(what, pynvml.nvmlDeviceGetPciInfo, handle).busId),
            memory_bytes=None if memory is None else int(memory.total),
            minor=optional(what, pynvml.nvmlDeviceGetMinorNumber, handle),
            brand=None if brand is None else _BRANDS.get(brand),
            architecture=None if architecture is None else _ARCHITECTURES.get(architecture),
            compute_capability=None if capability is None else (capability[0], capability[1]),
            mig_enabled=mode is not None and mode.enabled,
            mig=support,
            instances=() if support is None else instances_of(mig, support),
        )

    def mig(self, pci_bus_id: str) -> MigCard:
        """MIG of the card at that address.

        Raises:
            DriverError: there is no such card, or it does not answer.
        """
        name = f"the GPU at {pci_bus_id}"
        return MigCard(call(f"find {name}", pynvml.nvmlDeviceGetHandleByPciBusId, pci_bus_id), name)

    def figures(self, uuid: str, *, since_us: int) -> Figures | None:
        """How much of that card each process used, by samples taken later than `since_us`; None where there is none.

        Raises:
            DriverError: the card does not answer.
        """
        what = f"read the processes of {uuid}"
        handle = call(what, pynvml.nvmlDeviceGetHandleByUUID, uuid)
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, since_us)
        except pynvml.NVMLError as error:
            if error.value in _NOTHING_NEW:
                return None
            raise DriverError(f"cannot {what}: {error}") from error
        return _figures(samples)

    def memory(self, uuid: str) -> dict[int, int] | None:
        """Bytes of that card or MIG device that each process with a context holds; None where the driver does not tell.

        Of a card in MIG mode the driver gives the sums over its instances.

        Raises:
            DriverError: it does not answer.
        """
        what = f"read the processes of {uuid}"
        handle = call(what, lambda: pynvml.nvmlDeviceGetHandleByUUID(uuid))
        processes = optional(what, lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        return None if processes is None else _memory(processes)


def _memory(processes: Iterable[Any]) -> dict[int, int] | None:
    """By pid; a process with instances on several parts of the card holds their sum."""
    held: dict[int, int] = {}
    for process in processes:
        if process.usedGpuMemory is None:  # as under WSL: of no process then
            return None
        held[int(process.pid)] = held.get(int(process.pid), 0) + int(process.usedGpuMemory)
    return held


def _figures(samples: Iterable[Any]) -> Figures | None:
    """Samples of several periods are averaged; a process that slept in one of them has none there."""
    sound = [
        (int(s.pid), int(s.timeStamp), int(s.smUtil)) for s in samples if s.smUtil <= _FULL_PERCENT and s.timeStamp
    ]
    if not sound:
        return None
    times = sorted({at_us for _, at_us, _ in sound})
    periods = 1 + sum(later - earlier > _SAME_PERIOD_US for earlier, later in itertools.pairwise(times))
    busy: dict[int, float] = {}
    for pid, _, percent in sound:
        busy[pid] = busy.get(pid, 0.0) + percent / _FULL_PERCENT / periods
    return Figures(at_us=times[-1], periods=periods, busy=busy)
