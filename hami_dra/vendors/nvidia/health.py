"""How NVIDIA's cards are, through NVML: what happened (event sets) and what they say of themselves (counters and fields).

`EventSet` belongs to one session of NVML and ends with it.  Asking never blocks: whoever asks does so once a second, and no call
into the library stands between the session and its end.  A card that the driver has lost has a pulse that says so; one that
fails in another way is left out, and whoever asks knows nothing of it this time.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pynvml

from hami_dra.core.device_health import Effect, Ends, Fault, Pulse
from hami_dra.core.errors import DriverError, DriverUnloaded
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Partition, device_name
from hami_dra.vendors.nvidia.mig import MigCard
from hami_dra.vendors.nvidia.xids import OF_CARD, xid_fault

__all__ = ["Event", "EventSet", "pulse_of"]

T = TypeVar("T")

_WANTED: Final = (
    pynvml.nvmlEventTypeXidCriticalError | pynvml.nvmlEventTypeDoubleBitEccError | pynvml.nvmlEventTypeSingleBitEccError
)
_NO_INSTANCE: Final = 0xFFFFFFFF
_MOST_EVENTS: Final = 256
"""Taken at once: a card that never stops has to let others have a word."""
_LOST: Final = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_RESET_REQUIRED,
)
_UNLOADED: Final = (
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_UNINITIALIZED,
)

_SINGLE_BIT: Final = Fault(
    key="ecc",
    value="single-bit",
    effect=Effect.NONE,
    ends=Ends.QUIET,
    message="single-bit ECC errors were corrected: nothing has to be done",
)
_DOUBLE_BIT: Final = Fault(
    key="ecc",
    value="double-bit",
    effect=Effect.NO_SCHEDULE,
    ends=Ends.RESET,
    message="an ECC error could not be corrected: drain and reset the card",
)
_REMAP_PENDING: Final = Fault(
    key="rows",
    value="pending",
    effect=Effect.NONE,
    ends=Ends.RESET,
    message="memory rows wait for the next reset to be remapped: reset the card when convenient",
)
_REMAP_FAILED: Final = Fault(
    key="rows",
    value="failed",
    effect=Effect.NO_SCHEDULE,
    ends=Ends.RESET,
    message="memory rows could not be remapped: have the card replaced",
)
_ACTIONS: Final = {
    pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET: "gpu-reset",
    pynvml.NVML_GPU_RECOVERY_ACTION_NODE_REBOOT: "node-reboot",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_P2P: "drain-p2p",
    pynvml.NVML_GPU_RECOVERY_ACTION_DRAIN_AND_RESET: "drain-and-reset",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a card, or to a part of it."""

    bus_id: str
    fault: Fault
    instance: int | None
    """NVML's id of the GPU instance; None where it is no matter of one."""

    def faults(self) -> list[tuple[DeviceName, Fault]]:
        """The devices that are concerned, each with what that means for it.

        A fault of an instance is one of the partition that it is.  Where nothing can run there before a reset, which only all of
        the card can have, the card gets nothing new; so it does where nobody can say what the instance was.
        """
        card = device_name(self.bus_id)
        part = None if self.instance is None else _partition(self.bus_id, card, self.instance)
        if part is None:
            return [(card, self.fault)]
        found = [(part.name, self.fault)]
        if self.fault.effect is Effect.NO_EXECUTE:
            found.append((card, replace(self.fault, effect=Effect.NO_SCHEDULE)))
        return found


class EventSet:
    """What the driver tells of all cards that it can tell something of."""

    def __init__(self) -> None:
        """Needs an open session of NVML.

        Raises:
            DriverError: the driver makes no event set.
        """
        self._set: Any = _call("make an event set", pynvml.nvmlEventSetCreate)
        self._cards: dict[int | None, str] = {}
        """PCI addresses by handle: a lost card does not tell its own."""
        self._missing = set(range(int(_call("count the GPUs", pynvml.nvmlDeviceGetCount))))
        self.unwatched: set[int] = set()
        """Indices of cards of which the driver tells no events."""

    def close(self) -> None:
        """Let go, before the session ends."""
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlEventSetFree(self._set)

    def take(self) -> Iterator[Event]:
        """What happened since the last time.

        Raises:
            DriverError: the driver is not there any more.
        """
        for index in sorted(self._missing):
            self._register(index)
        for _ in range(_MOST_EVENTS):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._set, 0)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT or error.value in _LOST:
                    return  # which card is lost, its pulse tells
                raise _driver_error("wait for events", error) from error
            fault = _fault(event)
            bus_id = self._cards.get(_address(event.device))
            if fault is not None and bus_id is not None:
                yield Event(bus_id=bus_id, fault=fault, instance=_instance(event))

    def _register(self, index: int) -> None:
        """Watch a card; one that is lost at the moment is tried again."""
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            bus_id = pynvml.nvmlDeviceGetPciInfo(handle).busId
            types = pynvml.nvmlDeviceGetSupportedEventTypes(handle) & _WANTED
            pynvml.nvmlDeviceRegisterEvents(handle, types, self._set)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_NOT_SUPPORTED:
                self._missing.discard(index)
                self.unwatched.add(index)
            return
        self._missing.discard(index)
        self._cards[_address(handle)] = bus_id.decode() if isinstance(bus_id, bytes) else str(bus_id)


def pulse_of(bus_id: str) -> Pulse | None:
    """How the card at that PCI address is; None where it fails otherwise than by being lost.

    Raises:
        DriverUnloaded: the driver is not there any more.
    """
    try:
        return _pulse(pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode()))
    except pynvml.NVMLError as error:
        if error.value in _UNLOADED:
            raise _driver_error(f"ask the GPU at {bus_id}", error) from error
        return Pulse(answers=False) if error.value in _LOST else None


def _pulse(handle: Any) -> Pulse:
    pynvml.nvmlDeviceGetMinorNumber(handle)  # asks every card, whatever it can do: a lost one fails here
    rows = _maybe(lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
    standing = [] if rows is None else [_REMAP_PENDING] * bool(rows[2]) + [_REMAP_FAILED] * bool(rows[3])
    action = _maybe(lambda: pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])[0])
    wanted = None
    if action is not None and action.nvmlReturn == pynvml.NVML_SUCCESS:
        wanted = int(action.value.uiVal)
    found = Pulse(
        standing=tuple(standing),
        errors=_maybe(
            lambda: int(
                pynvml.nvmlDeviceGetTotalEccErrors(
                    handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
                )
            )
        ),
    )
    return found if not wanted else _with_action(found, wanted)


def _with_action(pulse: Pulse, action: int) -> Pulse:
    word = _ACTIONS.get(action, "other")
    fault = Fault(
        key="recovery",
        value=word,
        effect=Effect.NO_SCHEDULE,
        ends=Ends.RESET,
        message=f"the driver asks for recovery: {word}",
    )
    return replace(pulse, standing=(*pulse.standing, fault), wants_reset=True)


def _fault(event: Any) -> Fault | None:
    if event.eventType == pynvml.nvmlEventTypeXidCriticalError:
        return xid_fault(int(event.eventData))
    return {
        pynvml.nvmlEventTypeDoubleBitEccError: _DOUBLE_BIT,
        pynvml.nvmlEventTypeSingleBitEccError: _SINGLE_BIT,
    }.get(event.eventType)


def _instance(event: Any) -> int | None:
    """Only XIDs are put down to an instance (nvml.h, nvmlEventData_t)."""
    if event.eventType != pynvml.nvmlEventTypeXidCriticalError or int(event.eventData) in OF_CARD:
        return None
    instance = int(event.gpuInstanceId)
    return None if instance == _NO_INSTANCE else instance


def _partition(bus_id: str, card: DeviceName, instance: int) -> Partition | None:
    """What that GPU instance is; None where it is not there any more."""
    with contextlib.suppress(pynvml.NVMLError, DriverError):
        mig = MigCard(pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode()), f"the GPU at {bus_id}")
        profiles = mig.profiles()
        names = {profile.id: profile.name for profile in profiles}
        for found in mig.instances(profiles):
            if found.id == instance:
                return Partition(gpu=card, profile=names[found.profile_id], start=found.start)
    return None


def _address(handle: Any) -> int | None:
    """A handle is an opaque pointer, the same for the same card as long as the session lasts."""
    return ctypes.cast(handle, ctypes.c_void_p).value


def _call(what: str, function: Callable[[], T]) -> T:
    try:
        return function()
    except pynvml.NVMLError as error:
        raise _driver_error(what, error) from error


def _maybe(function: Callable[[], T]) -> T | None:
    """None for what the card or the driver does not have; a lost card, or a lost driver, is another matter."""
    try:
        return function()
    except pynvml.NVMLError as error:
        if error.value in _LOST or error.value in _UNLOADED:
            raise
        return None


def _driver_error(what: str, error: pynvml.NVMLError) -> DriverError:
    kind = DriverUnloaded if error.value in _UNLOADED else DriverError
    return kind(f"cannot {what}: {error}")
