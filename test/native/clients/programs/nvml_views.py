"""nvidia-ml-py, and nvitop's own view of a device."""

import pynvml
from native.clients.programs.common import report
from nvitop import Device

pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
memory2 = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
device = Device(0)
report(
    pynvml=[memory.total, memory.used, memory.free],
    pynvml2=[memory2.total, memory2.used, memory2.free],
    nvitop=[device.memory_total(), device.memory_used(), device.memory_free()],
    processes={process.pid: process.usedGpuMemory for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)},
    processes_of_nvitop={pid: process.gpu_memory() for pid, process in device.processes().items()},
)
