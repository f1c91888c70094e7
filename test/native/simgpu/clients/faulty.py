"""Works on the first card whenever told to by a line of input, and prints the error codes of each kind of call."""

import json
import sys

from native.simgpu.clients.common import call, driver, use_device


def attempt() -> dict[str, int]:
    """One call of each kind."""
    status, pointer = driver.cuMemAlloc(1 << 20)
    results = {
        "allocate": int(status),
        "copy": int(driver.cuMemsetD8(HELD, 1, 16)[0]),
        "synchronize": int(driver.cuCtxSynchronize()[0]),
        "context": int(driver.cuCtxCreate(None, 0, DEVICE)[0]),
    }
    if status == driver.CUresult.CUDA_SUCCESS:
        call(driver.cuMemFree(pointer))
    if results["context"] == 0:
        call(driver.cuCtxPopCurrent())
    return results


DEVICE = use_device(0)
HELD = call(driver.cuMemAlloc(64))
print("ready", flush=True)
for _ in sys.stdin:
    print(json.dumps(attempt()), flush=True)
