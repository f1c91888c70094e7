"""How long a process's turn on a card lasts.

NVML has no call for it, so the driver's own `nvidia-smi compute-policy` is run from the driver root.  Where that is not the
root of this process's files, nvidia-smi would not find its library: it is preloaded, since a search path would bring
the driver root's C library along.
"""

import os
import subprocess
from typing import Final

from hami_dra.api.opaque import Interval
from hami_dra.core.errors import DriverError
from hami_dra.core.ids import GpuUuid
from hami_dra.vendors.nvidia.driver_root import NVML, Root

__all__ = ["TimeSlices"]

_TIMEOUT_S = 15.0
_NUMBERS: Final = {Interval.DEFAULT: 0, Interval.SHORT: 1, Interval.MEDIUM: 2, Interval.LONG: 3}


class TimeSlices:
    """The turns of cards."""

    def __init__(self, driver: Root) -> None:
        """`driver` has nvidia-smi."""
        self._driver = driver

    def set(self, gpu: GpuUuid, interval: Interval) -> None:
        """Let turns on the card last so long, and let more than one process use it.

        Raises:
            DriverError: the driver says no, or nothing.
        """
        self._run("-i", gpu, "-c", "DEFAULT")
        self._run("compute-policy", "-i", gpu, "--set-timeslice", str(_NUMBERS[interval]))

    def _run(self, *arguments: str) -> None:
        words = [str(self._driver.find_program("nvidia-smi")), *arguments]
        environment = os.environ | {"LD_PRELOAD": str(self._driver.find_library(NVML))}
        what = f"nvidia-smi {' '.join(arguments)}"
        try:
            ran = subprocess.run(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DriverError(f"{what}: no answer in {_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise DriverError(f"{what}: {words[0]} cannot be run: {error.strerror}") from error
        if ran.returncode:
            raise DriverError(f"{what} failed with status {ran.returncode}: {ran.stdout.strip()[:500]}")
