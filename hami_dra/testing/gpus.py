"""Inventories, claims and plans to test with: a node with A100s, and allocations on it as the scheduler writes them."""

from typing import Any

from hami_dra.api.k8s import AllocationResult, ResourceClaim
from hami_dra.api.names import DRIVER
from hami_dra.api.quantity import format_bytes
from hami_dra.core.ids import GpuUuid, NodeName, PoolName
from hami_dra.core.inventory import (
    DeviceFile,
    DriverFiles,
    Gpu,
    Inventory,
    Library,
    MigInstance,
    MigProfile,
    MigSupport,
    Partition,
    device_name,
)
from hami_dra.core.slices import pool_name

__all__ = [
    "A100_MEMORY",
    "A100_PROFILES",
    "NODE",
    "POOL",
    "allocated_claim",
    "gpu",
    "inventory",
    "partition_result",
    "share_result",
]

NODE = NodeName("node-1")
POOL: PoolName = pool_name(NODE)
A100_MEMORY = 85899345920
"""80 GiB."""
_GIB = 1 << 30
_MIB = 1 << 20


def _profile(name: str, number: int, *, slices: int, memory_mib: int, starts: tuple[int, ...], size: int) -> MigProfile:
    return MigProfile(
        name=name,
        id=number,
        compute_profile_id=min(slices, 5) - 1,
        memory_bytes=memory_mib * _MIB,
        compute_slices=slices,
        memory_slices=size,
        multiprocessors=14 * slices,
        instances=len(starts),
        placements=tuple((start, size) for start in starts),
        copy_engines=slices,
    )


A100_PROFILES = (
    _profile("1g.10gb", 19, slices=1, memory_mib=9856, starts=(0, 1, 2, 3, 4, 5, 6), size=1),
    _profile("2g.20gb", 14, slices=2, memory_mib=19968, starts=(0, 2, 4), size=2),
    _profile("3g.40gb", 9, slices=3, memory_mib=40192, starts=(0, 4), size=4),
    _profile("4g.40gb", 5, slices=4, memory_mib=40192, starts=(0,), size=4),
    _profile("7g.80gb", 0, slices=7, memory_mib=80384, starts=(0,), size=8),
    _profile("1g.10gb+me", 20, slices=1, memory_mib=9856, starts=(0, 1, 2, 3, 4, 5, 6), size=1),
)
"""What an A100 can be cut into, by NVIDIA's user guide."""


def gpu(
    index: int = 0,
    *,
    memory_bytes: int = A100_MEMORY,
    simulated: bool = True,
    mig: MigSupport | None = None,
    instances: tuple[MigInstance, ...] = (),
) -> Gpu:
    """The A100 of that index; the first sits at PCI address 0000:17:00.0, the next at 0000:18:00.0."""
    address = f"0000:{0x17 + index:02x}:00.0"
    return Gpu(
        name=device_name(address),
        uuid=GpuUuid(f"GPU-5f4e0000-0000-4000-8000-{index:012x}"),
        vendor="nvidia",
        product_name="NVIDIA A100-SXM4-80GB",
        memory_bytes=memory_bytes,
        pci_address=address,
        minor=index,
        index=index,
        brand="Nvidia",
        architecture="Ampere",
        compute_capability=(8, 0),
        driver_version="570.124.06",
        cuda_driver_version=(12, 8),
        numa_node=0,
        pcie_root="pci0000:16",
        simulated=simulated,
        device_files=(
            DeviceFile(host_path=f"/driver/dev/nvidia{index}", container_path=f"/dev/nvidia{index}", character=False),
        ),
        mig=mig,
        instances=instances,
    )


def inventory(count: int = 1, *, memory_bytes: int = A100_MEMORY, mig: bool = False) -> Inventory:
    """A node with that many A100s, which can be cut with `mig`."""
    support = MigSupport(enabled=False, switchable=True, profiles=A100_PROFILES) if mig else None
    return Inventory(
        gpus=tuple(gpu(index, memory_bytes=memory_bytes, mig=support) for index in range(count)),
        drivers={
            "nvidia": DriverFiles(
                libraries=(
                    Library(host_path="/driver/usr/lib64/libcuda.so.570.124.06", names=("libcuda.so.1", "libcuda.so")),
                    Library(host_path="/driver/usr/lib64/libnvidia-ml.so.570.124.06", names=("libnvidia-ml.so.1",)),
                ),
                device_files=(
                    DeviceFile(host_path="/driver/dev/nvidiactl", container_path="/dev/nvidiactl", character=False),
                ),
                environment=(("NVIDIA_VISIBLE_DEVICES", "void"),),
            )
        },
    )


def share_result(
    *,
    request: str = "gpu",
    index: int = 0,
    share_id: str = "6b0f2a6e-0000-4000-8000-000000000001",
    memory_gib: int = 16,
    cores: int = 30,
) -> AllocationResult:
    """An allocation result: a share of the GPU with that index, or the whole card where `share_id` is empty."""
    whole: AllocationResult = {"request": request, "driver": DRIVER, "pool": POOL, "device": gpu(index).name}
    if not share_id:
        return whole
    return {
        **whole,
        "shareID": share_id,
        "consumedCapacity": {"memory": format_bytes(memory_gib * _GIB), "cores": str(cores), "slots": "1"},
    }


def partition_result(
    profile: str = "1g.10gb",
    start: int = 0,
    *,
    request: str = "gpu",
    index: int = 0,
    share_id: str = "",
    memory_gib: int = 4,
) -> AllocationResult:
    """An allocation result: a partition of the GPU with that index, or with `share_id` a share of it."""
    whole = share_result(request=request, share_id="")
    whole["device"] = Partition(gpu=gpu(index).name, profile=profile, start=start).name
    if not share_id:
        return whole
    return share_result(request=request, share_id=share_id, memory_gib=memory_gib) | {"device": whole["device"]}


def allocated_claim(
    name: str = "train",
    *results: AllocationResult,
    uid: str | None = None,
    namespace: str = "ml",
    config: list[dict[str, Any]] | None = None,
) -> ResourceClaim:
    """A claim with that allocation, by default one share of 16 GiB and 30 cores."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"namespace": namespace, "name": name, "uid": uid or f"{name}-uid"},
        "spec": {"devices": {"requests": []}},
        "status": {
            "allocation": {
                "devices": {
                    "results": list(results) or [share_result()],
                    "config": config or [],  # type: ignore[typeddict-item]
                }
            },
            "reservedFor": [{"resource": "pods", "name": f"{name}-pod", "uid": f"{name}-pod-uid"}],
        },
    }
