"""Prints what stock nvidia-ml-py sees of the node."""

import json

import pynvml


def describe(handle: object) -> dict[str, object]:
    """What NVML says about one card; each way to its handle must lead to the same card."""
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    pci = pynvml.nvmlDeviceGetPciInfo(handle)
    for same in (
        pynvml.nvmlDeviceGetHandleByUUID(uuid),
        pynvml.nvmlDeviceGetHandleByPciBusId(pci.busId),
        pynvml.nvmlDeviceGetHandleBySerial(pynvml.nvmlDeviceGetSerial(handle)),
        pynvml.nvmlDeviceGetHandleByIndex(pynvml.nvmlDeviceGetIndex(handle)),
    ):
        assert pynvml.nvmlDeviceGetUUID(same) == uuid
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    memory2 = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    assert (memory.total, memory.used) == (memory2.total, memory2.used + memory2.reserved)
    return {
        "name": pynvml.nvmlDeviceGetName(handle),
        "uuid": uuid,
        "pci": pci.busIdLegacy.lower(),
        "minor": pynvml.nvmlDeviceGetMinorNumber(handle),
        "numa_node": pynvml.nvmlDeviceGetNumaNodeId(handle),
        "memory_bytes": memory.total,
        "used_bytes": memory.used,
        "capability": list(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
        "architecture": pynvml.nvmlDeviceGetArchitecture(handle),
        "processes": {
            process.pid: process.usedGpuMemory for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        },
    }


def main() -> None:
    """Print the driver and the cards, or the error of nvmlInit."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        print(json.dumps({"error": error.value, "cards": []}))
        return
    cards = [describe(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
    versions = (pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion())
    print(json.dumps({"error": 0, "driver": versions[0], "cuda": versions[1], "cards": cards}))
    pynvml.nvmlShutdown()


main()
