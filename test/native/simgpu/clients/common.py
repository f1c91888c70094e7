"""What the clients share: calls of cuda-bindings that raise, and a context on a device."""

from typing import Any

from cuda.bindings import driver

__all__ = ["call", "driver", "use_device"]


def call(result: tuple[Any, ...]) -> Any:
    """The value that a function of cuda-bindings returned, if it succeeded."""
    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        raise SystemExit(f"{status!r}")
    return values[0] if len(values) == 1 else tuple(values)


def use_device(ordinal: int) -> Any:
    """Make the primary context of a device current, and return the device."""
    call(driver.cuInit(0))
    device = call(driver.cuDeviceGet(ordinal))
    call(driver.cuCtxSetCurrent(call(driver.cuDevicePrimaryCtxRetain(device))))
    return device
