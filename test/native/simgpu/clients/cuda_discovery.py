"""Prints what stock cuda-bindings sees of the node."""

import json
import uuid

from native.simgpu.clients.common import call, driver

ATTRIBUTE = driver.CUdevice_attribute


def describe(ordinal: int) -> dict[str, object]:
    """What CUDA says about one device."""
    device = call(driver.cuDeviceGet(ordinal))
    attribute = ATTRIBUTE.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    major = call(driver.cuDeviceGetAttribute(ATTRIBUTE.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device))
    minor = call(driver.cuDeviceGetAttribute(ATTRIBUTE.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device))
    name = call(driver.cuDeviceGetName(96, device)).rstrip(b"\0 ").decode().split("\0")[0]
    return {
        "name": name,
        "uuid": f"{'MIG' if ' MIG ' in name else 'GPU'}-{uuid.UUID(bytes=bytes(call(driver.cuDeviceGetUuid(device)).bytes))}",
        "pci": call(driver.cuDeviceGetPCIBusId(32, device)).split(b"\0")[0].decode().lower(),
        "memory_bytes": call(driver.cuDeviceTotalMem(device)),
        "capability": [major, minor],
        "sm_count": call(driver.cuDeviceGetAttribute(attribute, device)),
    }


def main() -> None:
    """Print the devices, or the error of cuInit."""
    status = driver.cuInit(0)[0]
    if status != driver.CUresult.CUDA_SUCCESS:
        print(json.dumps({"error": int(status), "devices": []}))
        return
    devices = [describe(ordinal) for ordinal in range(call(driver.cuDeviceGetCount()))]
    print(json.dumps({"error": 0, "version": call(driver.cuDriverGetVersion()), "devices": devices}))


main()
