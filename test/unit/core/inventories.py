"""Inventories for unit tests."""

from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import DeviceFile, DriverFiles, Gpu, Inventory, Library, device_name

PCI = ("0000:17:00.0", "0000:65:00.0")


def gpu(index: int = 0, *, memory_bytes: int = 80 << 30) -> Gpu:
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
