"""The CUDA driver and NVML by ctypes: what the worker needs of them, under the names that the libraries export.

Standard library only, because this travels to machines that have a driver and a Python and nothing else.
"""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

__all__ = ["OUT_OF_MEMORY", "Cuda", "CudaError", "Nvml"]

OUT_OF_MEMORY = 2

# A loop of as many steps as its argument says; simgpu takes the argument of a kernel of this name for nanoseconds.
_PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.global .u64 sink;
.visible .entry simgpu_sleep(.param .u64 steps)
{
  .reg .u64 %steps, %at, %clock, %sum;
  .reg .pred %more, %never;
  ld.param.u64 %steps, [steps];
  mov.u64 %at, 0;
  mov.u64 %sum, 0;
LOOP:
  mov.u64 %clock, %clock64;
  xor.b64 %sum, %sum, %clock;
  add.u64 %at, %at, 1;
  setp.lt.u64 %more, %at, %steps;
  @%more bra LOOP;
  setp.eq.u64 %never, %sum, 6148914691236517205;
  @%never st.global.u64 [sink], %sum;
  ret;
}
"""


class CudaError(Exception):
    """A call answered with something else than CUDA_SUCCESS."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: {code}")
        self.code = code


class _Location(ctypes.Structure):
    _fields_ = (("type", c_int), ("id", c_int))


class _MemoryProperties(ctypes.Structure):
    """CUmemAllocationProp, CUmemPoolProps: both begin so, the rest may be zero."""

    _fields_ = (("type", c_int), ("handle_types", c_int), ("location", _Location), ("rest", c_uint64 * 16))


class _ArrayDescriptor(ctypes.Structure):
    _fields_ = (("width", c_size_t), ("height", c_size_t), ("format", c_int), ("channels", c_uint))


class Cuda:
    """One device's driver API; raises CudaError."""

    def __init__(self, ordinal: int) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._context = c_void_p()
        self._function = c_void_p()
        self.device = c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", byref(self.device), ordinal)
        self.call("cuDevicePrimaryCtxRetain", byref(self._context), self.device)
        self.call("cuCtxSetCurrent", self._context)

    def call(self, name: str, *arguments: Any) -> None:
        """Call an exported function."""
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(name, code)

    def memory(self) -> dict[str, int]:
        """Free and total by cuMemGetInfo, total by cuDeviceTotalMem."""
        free, total, of_device = c_size_t(), c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        self.call("cuDeviceTotalMem_v2", byref(of_device), self.device)
        return {"free": free.value, "total": total.value, "of_device": of_device.value}

    def allocate(self, route: str, size: int) -> tuple[str, Any]:
        """Allocate by one of the routes; the result is for `free`."""
        found = c_uint64()
        if route == "sync":
            self.call("cuMemAlloc_v2", byref(found), c_size_t(size))
        elif route == "managed":
            self.call("cuMemAllocManaged", byref(found), c_size_t(size), 1)
        elif route == "pitch":
            self.call(
                "cuMemAllocPitch_v2", byref(found), byref(c_size_t()), c_size_t(1 << 16), c_size_t(size >> 16), 16
            )
        elif route == "async":
            self.call("cuMemAllocAsync", byref(found), c_size_t(size), None)
        elif route == "procaddress":
            self._by_procaddress(found, size)
        elif route == "vmm":
            properties = _MemoryProperties(type=1, location=_Location(type=1, id=self.device.value))
            self.call("cuMemCreate", byref(found), c_size_t(size), byref(properties), c_uint64(0))
        else:
            array = c_void_p()
            shape = _ArrayDescriptor(width=1 << 14, height=size >> 16, format=0x20, channels=1)
            self.call("cuArrayCreate_v2", byref(array), byref(shape))
            return route, array
        return route, found

    def _by_procaddress(self, found: c_uint64, size: int) -> None:
        function = c_void_p()
        self.call("cuGetProcAddress", b"cuMemAlloc", byref(function), 11030, c_uint64(0))
        allocate = ctypes.CFUNCTYPE(c_int, POINTER(c_uint64), c_size_t)(function.value or 0)
        if code := allocate(byref(found), size):
            raise CudaError("cuMemAlloc", code)

    def free(self, piece: tuple[str, Any]) -> None:
        """Free what `allocate` gave."""
        route, value = piece
        if route == "async":
            self.call("cuMemFreeAsync", value, None)
            self.synchronize()
        else:
            name = {"vmm": "cuMemRelease", "array": "cuArrayDestroy"}.get(route, "cuMemFree_v2")
            self.call(name, value)

    def launch(self, steps: int) -> None:
        """Launch the loop; it runs on the default stream."""
        if not self._function:
            module = c_void_p()
            self.call("cuModuleLoadData", byref(module), c_char_p(_PTX))
            self.call("cuModuleGetFunction", byref(self._function), module, b"simgpu_sleep")
        value = c_uint64(steps)
        parameters = (c_void_p * 1)(ctypes.addressof(value))
        self.call("cuLaunchKernel", self._function, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)

    def duration_ns(self, steps: int) -> float:
        """How long one launch of the loop takes, by the driver's own events."""
        start, end, milliseconds = c_void_p(), c_void_p(), ctypes.c_float()
        for event in (start, end):
            self.call("cuEventCreate", byref(event), 0)
        self.call("cuEventRecord", start, None)
        self.launch(steps)
        self.call("cuEventRecord", end, None)
        self.synchronize()
        self.call("cuEventElapsedTime", byref(milliseconds), start, end)
        for event in (start, end):
            self.call("cuEventDestroy_v2", event)
        return milliseconds.value * 1e6

    def synchronize(self) -> None:
        """Wait until the device has done all."""
        self.call("cuCtxSynchronize")


class _NvmlMemory(ctypes.Structure):
    _fields_ = (("total", c_uint64), ("free", c_uint64), ("used", c_uint64))


class Nvml:
    """What NVML says of a device."""

    def __init__(self, ordinal: int) -> None:
        self._library = ctypes.CDLL("libnvidia-ml.so.1")
        self._device = c_void_p()
        self._library.nvmlInit_v2()
        if code := self._library.nvmlDeviceGetHandleByIndex_v2(ordinal, byref(self._device)):
            raise CudaError("nvmlDeviceGetHandleByIndex_v2", code)

    def memory(self) -> dict[str, int]:
        """Total, free and used bytes."""
        found = _NvmlMemory()
        if code := self._library.nvmlDeviceGetMemoryInfo(self._device, byref(found)):
            raise CudaError("nvmlDeviceGetMemoryInfo", code)
        return {"total": found.total, "free": found.free, "used": found.used}

    def uuid(self) -> str:
        """The UUID, as GPU-…."""
        text = ctypes.create_string_buffer(96)
        if code := self._library.nvmlDeviceGetUUID(self._device, text, 96):
            raise CudaError("nvmlDeviceGetUUID", code)
        return text.value.decode()
