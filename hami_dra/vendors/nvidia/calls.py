"""Calls of NVML, and what their errors mean: errors become `DriverError`, what is not supported becomes None."""

from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

import pynvml

from hami_dra.core.errors import DriverError, DriverUnloaded

__all__ = ["UNSUPPORTED", "call", "optional", "text"]

T = TypeVar("T")

UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_DATA,
)
"""What NVML answers where the card or the driver does not have the thing."""
_UNLOADED = (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
_ADVICE = {
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the kernel driver is not loaded",
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed below the driver root",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "library and kernel driver differ: restart this pod after a driver upgrade",
    pynvml.NVML_ERROR_NO_PERMISSION: "this process may not open /dev/nvidiactl or, for MIG, /dev/nvidia-caps/nvidia-cap1",
}


def call(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of pynvml.

    Raises:
        DriverError: it failed; says what was tried and, where that is known, what to do.
    """
    found = optional(what, function, *arguments, absent=())
    return cast("T", found)


def optional(what: str, function: Callable[..., T], *arguments: Any, absent: Collection[int] = UNSUPPORTED) -> T | None:
    """The same, but None for what the card or the driver does not have: where NVML fails with one of `absent`.

    Raises:
        DriverError: it failed otherwise.
    """
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        if error.value in absent:
            return None
        advice = _ADVICE.get(error.value)
        kind = DriverUnloaded if error.value in _UNLOADED else DriverError
        raise kind(f"cannot {what}: {error}" + (f"; {advice}" if advice else "")) from error


def text(value: Any) -> str:
    """A string of NVML, whichever way pynvml hands it out."""
    return value.decode() if isinstance(value, bytes) else str(value)
