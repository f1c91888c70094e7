"""How AMD's cards are, by what amdgpu shows in sysfs.

There are no events: errors are counted for each block of a card (`ras/<block>_err_count`: `ue` uncorrected, `ce` corrected, since
the driver was loaded), and pages of memory that broke are listed (`ras/gpu_vram_bad_pages`).  A card that its driver let go of,
or that left the bus, is lost.  Cards without RAS (most that are not Instinct) are watched for that alone.
Source: Linux, Documentation/gpu/amdgpu/ras.rst.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from hami_dra.core.device_health import Effect, Ends, Fault, Pulse
from hami_dra.core.errors import DriverUnloaded
from hami_dra.core.ids import DeviceName
from hami_dra.vendors.amd.text import entries, text
from hami_dra.vendors.pci import address

__all__ = ["AmdSensor"]

_COUNTS = re.compile(r"[a-z0-9_]{1,40}_err_count", re.ASCII)
_COUNT = re.compile(r"(?P<kind>ue|ce): *(?P<count>[0-9]{1,20})", re.ASCII)
_BAD_PAGE = re.compile(r"0x[0-9a-f]+ : 0x[0-9a-f]+ : (?P<state>[RPF])", re.ASCII)

_UNCORRECTED: Final = Fault(
    key="ecc",
    value="uncorrected",
    effect=Effect.NO_SCHEDULE,
    ends=Ends.RESET,
    message="an error could not be corrected: drain the card and load its driver again, or restart the node",
)
_CORRECTED: Final = Fault(
    key="ecc",
    value="corrected",
    effect=Effect.NONE,
    ends=Ends.QUIET,
    message="errors were corrected: nothing has to be done",
)
_PENDING: Final = Fault(
    key="pages",
    value="pending",
    effect=Effect.NONE,
    ends=Ends.RESET,
    message="bad pages of memory wait to be retired: load the driver again when convenient",
)
_NOT_RETIRED: Final = Fault(
    key="pages",
    value="failed",
    effect=Effect.NO_SCHEDULE,
    ends=Ends.RESET,
    message="bad pages of memory could not be retired: drain the card and have it seen to",
)


class AmdSensor:
    """Faults and pulses of the cards.  Not for several threads at once."""

    def __init__(self, sysfs: Path) -> None:
        """Look below `sysfs`."""
        self._driver = sysfs / "bus/pci/drivers/amdgpu"
        self._corrected: dict[DeviceName, int] = {}
        """Corrected errors of each card at the last pulse."""
        self._happened: list[tuple[DeviceName, Fault]] = []

    def faults(self) -> Sequence[tuple[DeviceName, Fault]]:
        """What the last pulses found to have happened."""
        found, self._happened = self._happened, []
        return found

    def pulses(self, names: Collection[DeviceName]) -> Mapping[DeviceName, Pulse]:
        """How these cards are.

        Raises:
            DriverUnloaded: amdgpu is not loaded.
        """
        if names and not self._driver.is_dir():
            raise DriverUnloaded(
                f"{self._driver} is not there: the kernel driver amdgpu is not loaded (modprobe amdgpu)"
            )
        return {name: self._pulse(name) for name in names}

    def _pulse(self, name: DeviceName) -> Pulse:
        card = self._driver / address(name)
        if not card.is_dir():
            self._corrected.pop(name, None)
            return Pulse(answers=False)
        counts = [_counts(path) for _, path in entries(card / "ras", _COUNTS)]
        corrected = sum(found.get("ce", 0) for found in counts)
        if corrected > self._corrected.get(name, corrected):
            self._happened.append((name, _CORRECTED))
        self._corrected[name] = corrected
        uncorrected = sum(found.get("ue", 0) for found in counts)
        pages = {match["state"] for match in _BAD_PAGE.finditer(text(card / "ras/gpu_vram_bad_pages") or "")}
        standing = (
            *([_UNCORRECTED] if uncorrected else []),
            *([_NOT_RETIRED] if "F" in pages else []),
            *([_PENDING] if "P" in pages else []),
        )
        return Pulse(standing=standing, errors=uncorrected if counts else None)


def _counts(path: Path) -> dict[str, int]:
    return {match["kind"]: int(match["count"]) for match in _COUNT.finditer(text(path) or "")}
