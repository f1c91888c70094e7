"""Inventories for unit tests."""

from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import (
    DeviceFile,
    DriverFiles,
    Gpu,
    Inventory,
    Library,
    MigProfile,
    MigSupport,
    device_name,
)

MIB = 1 << 20


def _profile(
    name: str,
    number: int,
    *,
    starts: tuple[int, ...],
    size: int,
    slices: int,
    memory_mib: int,
    jpeg: int = 0,
    at_once: int = 0,
) -> MigProfile:
    return MigProfile(
        name=name,
        id=number,
        compute_profile_id=0,
        memory_bytes=memory_mib * MIB,
        compute_slices=slices,
        memory_slices=size,
        multiprocessors=14 * slices,
        instances=at_once or len(starts),
        placements=tuple((start, size) for start in starts),
        jpeg_engines=jpeg,
    )


MIG = MigSupport(
    enabled=False,
    switchable=True,
    profiles=(
        _profile("1g.10gb", 19, starts=(0, 1, 2, 3, 4, 5, 6), size=1, slices=1, memory_mib=9856),
        _profile("2g.20gb", 14, starts=(0, 2, 4), size=2, slices=2, memory_mib=19968),
        _profile("3g.40gb", 9, starts=(0, 4), size=4, slices=3, memory_mib=40192),
        _profile("4g.40gb", 5, starts=(0,), size=4, slices=4, memory_mib=40192),
        _profile("7g.80gb", 0, starts=(0,), size=8, slices=7, memory_mib=80384, jpeg=1),
        _profile("1g.10gb+me", 20, starts=(0, 1, 2, 3, 4, 5, 6), size=1, slices=1, memory_mib=9856, jpeg=1, at_once=1),
        _profile("1g.20gb", 15, starts=(0, 2, 4, 6), size=2, slices=1, memory_mib=19968),
    ),
)
"""What an A100 of 80 GB can be cut into (NVIDIA's MIG user guide)."""

PCI = ("0000:17:00.0", "0000:65:00.0")


def gpu(index: int = 0, *, memory_bytes: int = 80 << 30, mig: MigSupport | None = None) -> Gpu:
    """An A100 at the index-th address."""
    return Gpu(
        name=device_name(PCI[index]),
        uuid=GpuUuid(f"GPU-00000000-0000-4000-8000-00000000000{index}"),
        vendor="nvidia",
        product_name="NVIDIA A100-SXM4-80GB",
        memory_bytes=memory_bytes,
        pci_address=PCI[index],
        minor=index,
        index=index,
        brand="Nvidia",
        architecture="Ampere",
        compute_capability=(8, 0),
        driver_version="570.124.06",
        cuda_driver_version=(12, 8),
        numa_node=index,
        pcie_root=f"pci0000:{index}0",
        mig=mig,
        device_files=(DeviceFile(host_path=f"/dev/nvidia{index}", container_path=f"/dev/nvidia{index}"),),
    )


def inventory(count: int = 1, *, memory_bytes: int = 80 << 30) -> Inventory:
    """A node with `count` cards and a driver."""
    return Inventory(
        gpus=tuple(gpu(index, memory_bytes=memory_bytes) for index in range(count)),
        drivers={
            "nvidia": DriverFiles(
                libraries=(Library(host_path="/drv/libcuda.so.570.124.06", names=("libcuda.so.1",)),),
                device_files=(
                    DeviceFile(host_path="/dev/nvidiactl", container_path="/dev/nvidiactl"),
                    DeviceFile(host_path="/sim/nvidia-uvm", container_path="/dev/nvidia-uvm", character=False),
                ),
                environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
            )
        },
    )
