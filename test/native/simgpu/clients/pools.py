"""Allocates from pools through stock cuda-bindings, and prints what the card held after each step."""

import json

from native.simgpu.clients.common import call, driver, use_device

MIB = 1 << 20
STREAM = driver.CUstream(0)
THRESHOLD = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD


def used() -> int:
    """Bytes that are taken from the card."""
    free, total = call(driver.cuMemGetInfo())
    return int(total - free)


def pool_of(device: int, *, most_bytes: int = 0) -> driver.CUmemoryPool:
    """A new pool."""
    properties = driver.CUmemPoolProps()
    properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = device
    properties.maxSize = most_bytes
    return call(driver.cuMemPoolCreate(properties))


def main() -> None:
    """Print the figures."""
    seen = {}
    use_device(0)
    first = call(driver.cuMemAllocAsync(7 * MIB, STREAM))
    seen["allocated"] = used()
    call(driver.cuMemFreeAsync(first, STREAM))
    seen["freed"] = used()
    second = call(driver.cuMemAllocAsync(8 * MIB, STREAM))
    seen["reused"] = used()
    call(driver.cuMemFreeAsync(second, STREAM))
    call(driver.cuStreamSynchronize(STREAM))
    seen["synchronized"] = used()

    pool = pool_of(0)
    call(driver.cuMemPoolSetAttribute(pool, THRESHOLD, driver.cuuint64_t(6 * MIB)))
    small = call(driver.cuMemAllocFromPoolAsync(MIB, pool, STREAM))
    large = call(driver.cuMemAllocFromPoolAsync(20 * MIB, pool, STREAM))
    call(driver.cuMemFreeAsync(large, STREAM))
    call(driver.cuStreamSynchronize(STREAM))
    seen["kept"] = used()
    call(driver.cuMemPoolTrimTo(pool, 0))
    seen["trimmed"] = used()
    call(driver.cuMemFreeAsync(small, STREAM))

    total = call(driver.cuMemGetInfo())[1]
    whole, address = driver.cuMemAlloc(total)
    seen["whole_card"] = int(whole)
    call(driver.cuMemFree(address))

    narrow = pool_of(0, most_bytes=4 * MIB)
    call(driver.cuMemAllocFromPoolAsync(4 * MIB, narrow, STREAM))
    seen["beyond_most"] = int(driver.cuMemAllocFromPoolAsync(1, narrow, STREAM)[0])
    print(json.dumps(seen))


main()
