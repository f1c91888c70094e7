"""Loads code and sets limits through stock cuda-bindings, and prints what the driver took of the card for it."""

import json

from native.simgpu.clients.common import call, driver, use_device

MIB = 1 << 20
CODE = b"simgpu\nkernel nothing()\nglobal table 3145728\n"
LIMIT = driver.CUlimit


def used() -> int:
    """Bytes that are taken from the card."""
    free, total = call(driver.cuMemGetInfo())
    return int(total - free)


def main() -> None:
    """Print the figures."""
    use_device(0)
    before = used()
    module = call(driver.cuModuleLoadData(CODE))
    seen = {"loaded": used() - before}
    call(driver.cuModuleGetFunction(module, b"nothing"))
    seen["asked"] = used() - before
    call(driver.cuModuleUnload(module))
    seen["unloaded"] = used() - before
    call(driver.cuCtxSetLimit(LIMIT.CU_LIMIT_MALLOC_HEAP_SIZE, 40 * MIB))
    seen["heap"] = used() - before
    call(driver.cuCtxSetLimit(LIMIT.CU_LIMIT_STACK_SIZE, 2048))
    seen["stack"] = used() - before
    seen["refused"] = int(driver.cuCtxSetLimit(LIMIT.CU_LIMIT_MALLOC_HEAP_SIZE, 1 << 40)[0])
    seen["kept"] = int(call(driver.cuCtxGetLimit(LIMIT.CU_LIMIT_MALLOC_HEAP_SIZE)))
    call(driver.cuModuleLoadData(CODE))
    call(driver.cuDevicePrimaryCtxReset(0))
    print(json.dumps(seen | {"code": len(CODE)}))


main()
