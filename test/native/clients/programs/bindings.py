"""cuda-bindings: the driver API by cuGetProcAddress."""

import ctypes
from typing import Any

from cuda.bindings import driver
from native.clients.programs.common import BELOW, PTX, REST, SHARE, report


def call(answer: tuple[Any, ...]) -> Any:
    """The values of a call that succeeded."""
    assert answer[0] == driver.CUresult.CUDA_SUCCESS, answer
    return answer[1] if len(answer) == 2 else answer[1:]


call(driver.cuInit(0))
device = call(driver.cuDeviceGet(0))
call(driver.cuCtxSetCurrent(call(driver.cuDevicePrimaryCtxRetain(device))))
free, total = call(driver.cuMemGetInfo())
held = call(driver.cuMemAlloc(BELOW))
stream = call(driver.cuStreamCreate(0))
refused = {
    "cuMemAlloc": driver.cuMemAlloc(REST)[0].name,
    "cuMemAllocManaged": driver.cuMemAllocManaged(REST, 1)[0].name,
    "cuMemAllocAsync": driver.cuMemAllocAsync(REST, stream)[0].name,
    "cuMemAllocPitch": driver.cuMemAllocPitch(REST >> 10, 1 << 10, 4)[0].name,
}
left = call(driver.cuMemGetInfo())[0]

sent, back = bytes(range(256)), ctypes.create_string_buffer(256)
call(driver.cuMemcpyHtoD(held, sent, 256))
call(driver.cuMemcpyDtoH(back, held, 256))
kernel = call(driver.cuModuleGetFunction(call(driver.cuModuleLoadData(PTX)), b"nothing"))
call(driver.cuLaunchKernel(kernel, 4, 1, 1, 128, 1, 1, 0, stream, ((held,), (None,)), 0))
call(driver.cuStreamSynchronize(stream))

call(driver.cuMemFree(held))
call(driver.cuMemAlloc(SHARE))
report(
    free=free,
    total=total,
    total_of_device=call(driver.cuDeviceTotalMem(device)),
    refused=sorted(set(refused.values())),
    left=left,
    same=back.raw == sent,
)
