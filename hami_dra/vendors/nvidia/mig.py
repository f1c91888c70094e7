"""MIG of one card, through NVML.

Profiles and placements are what the driver says, never a table of ours.  A GPU instance counts as a partition when one compute
instance takes all of it; others (cut further by an administrator, or left half made by a killed process) have no UUID here.
Source: nvml.h, section "Multi Instance GPU Management".
"""

from collections.abc import Callable, Iterable, Iterator
from ctypes import Array, byref, c_uint
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import pynvml

from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import MigInstance, MigProfile, MigSupport
from hami_dra.vendors.nvidia.calls import UNSUPPORTED, call, optional, text

__all__ = ["Instance", "MigCard", "Mode", "Switch", "instances_of", "support_of", "whole_uuid"]

_MIB = 1 << 20
_NAME_PREFIX = "MIG "
_ABSENT = (*UNSUPPORTED, pynvml.NVML_ERROR_INVALID_ARGUMENT)
"""What NVML says of a profile number that this card, or this driver, does not have."""
_DENIED = (*_ABSENT, pynvml.NVML_ERROR_NO_PERMISSION)
_WHOLE = {
    1: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE,
    2: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE,
    3: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE,
    4: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_4_SLICE,
    6: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_6_SLICE,
    7: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE,
    8: pynvml.NVML_COMPUTE_INSTANCE_PROFILE_8_SLICE,
}
"""The compute instance profile that takes all of a GPU instance with that many compute slices."""
_MOST_COMPUTE_INSTANCES = 8
_SHARED_ENGINES = pynvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """Whether a card is in MIG mode, and whether it will be after its next reset."""

    enabled: bool
    pending: bool


class Switch(Enum):
    """What became of a switch of the mode (nvml.h, nvmlDeviceSetMigMode)."""

    DONE = auto()
    IN_USE = auto()
    """The card is not idle."""
    NEEDS_RESET = auto()
    """This machine does not let the driver reset the card, as in most virtual machines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A GPU instance that exists."""

    handle: Any
    id: int
    profile_id: int
    start: int
    size: int
    compute: tuple[tuple[Any, int, int], ...]
    """Handle, id and profile of each compute instance."""

    def overlaps(self, start: int, size: int) -> bool:
        """Whether it lies on any of those memory slices."""
        return self.start < start + size and start < self.start + self.size


class MigCard:
    """One card; every method raises DriverError where NVML fails."""

    def __init__(self, handle: Any, name: str) -> None:
        """The card of that handle; messages call it `name`."""
        self._handle = handle
        self._name = name

    def minor(self) -> int:
        """Minor number of its device file; a switch of the mode may change it."""
        return int(call(f"read the minor number of {self._name}", pynvml.nvmlDeviceGetMinorNumber, self._handle))

    def mode(self) -> Mode | None:
        """Its mode; None for a card without MIG."""
        found = optional(f"read the MIG mode of {self._name}", pynvml.nvmlDeviceGetMigMode, self._handle)
        return None if found is None else Mode(enabled=bool(found[0]), pending=bool(found[1]))

    def set_mode(self, *, enabled: bool) -> Switch:
        """Ask for a mode; says whether it is in force, or what it waits for."""
        what = f"switch MIG {'on' if enabled else 'off'} on {self._name}"
        status = call(what, pynvml.nvmlDeviceSetMigMode, self._handle, int(enabled))
        if status == pynvml.NVML_ERROR_RESET_REQUIRED:
            return Switch.NEEDS_RESET
        return Switch.DONE if status == pynvml.NVML_SUCCESS else Switch.IN_USE

    def users(self) -> tuple[int, ...]:
        """Processes that compute on it."""
        what = f"read the processes of {self._name}"
        found = optional(what, pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        return tuple(sorted(int(process.pid) for process in found or ()))

    def profiles(self) -> tuple[MigProfile, ...]:
        """The kinds of GPU instances it can be cut into, by NVML's number; none where this process may not configure MIG."""
        found = (self._profile(number) for number in range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT))
        return tuple(profile for profile in found if profile is not None)

    def _profile(self, number: int) -> MigProfile | None:
        what = f"read MIG profile {number} of {self._name}"
        info = optional(what, pynvml.nvmlDeviceGetGpuInstanceProfileInfo, self._handle, number, absent=_ABSENT)
        if info is None or int(info.sliceCount) not in _WHOLE or not (places := self._placements(int(info.id))):
            return None
        return MigProfile(
            name=text(info.name).removeprefix(_NAME_PREFIX),
            id=int(info.id),
            compute_profile_id=_WHOLE[int(info.sliceCount)],
            memory_bytes=int(info.memorySizeMB) * _MIB,
            compute_slices=int(info.sliceCount),
            memory_slices=places[0][1],
            multiprocessors=int(info.multiprocessorCount),
            instances=int(info.instanceCount),
            placements=places,
            copy_engines=int(info.copyEngineCount),
            decoders=int(info.decoderCount),
            encoders=int(info.encoderCount),
            jpeg_engines=int(info.jpegCount),
            ofa_engines=int(info.ofaCount),
        )

    def _placements(self, profile_id: int) -> tuple[tuple[int, int], ...]:
        what = f"read the placements of MIG profile {profile_id} of {self._name}"
        get = pynvml.nvmlDeviceGetGpuInstancePossiblePlacements
        count = c_uint(0)
        if optional(what, get, self._handle, profile_id, None, byref(count), absent=_DENIED) is None:
            return ()
        found = (pynvml.c_nvmlGpuInstancePlacement_t * count.value)()
        call(what, get, self._handle, profile_id, found, byref(count))
        return tuple(sorted((int(place.start), int(place.size)) for place in found[: count.value]))

    def instances(self, profiles: Iterable[MigProfile]) -> list[Instance]:
        """The GPU instances of these profiles that exist, whoever made them, by placement."""
        what = f"list the GPU instances of {self._name}"
        found = []
        for profile in profiles:
            room = (pynvml.c_nvmlGpuInstance_t * max(profile.instances, len(profile.placements)))()
            found += _listed(what, pynvml.nvmlDeviceGetGpuInstances, self._handle, profile.id, room)
        return sorted(map(self._instance, found), key=lambda instance: (instance.start, instance.id))

    def _instance(self, handle: Any) -> Instance:
        info = call(f"read a GPU instance of {self._name}", pynvml.nvmlGpuInstanceGetInfo, handle)
        return Instance(
            handle=handle,
            id=int(info.id),
            profile_id=int(info.profileId),
            start=int(info.placement.start),
            size=int(info.placement.size),
            compute=tuple(self._compute_instances(handle)),
        )

    def _compute_instances(self, instance: Any) -> Iterator[tuple[Any, int, int]]:
        what = f"list the compute instances of {self._name}"
        describe = pynvml.nvmlGpuInstanceGetComputeInstanceProfileInfo
        for number in range(pynvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
            info = optional(what, describe, instance, number, _SHARED_ENGINES, absent=_ABSENT)
            if info is None:
                continue
            room = (pynvml.c_nvmlComputeInstance_t * _MOST_COMPUTE_INSTANCES)()
            for handle in _listed(what, pynvml.nvmlGpuInstanceGetComputeInstances, instance, int(info.id), room):
                found = call(what, pynvml.nvmlComputeInstanceGetInfo, handle)
                yield handle, int(found.id), int(found.profileId)

    def create_instance(self, profile: MigProfile, start: int) -> Instance:
        """Make a GPU instance that begins at a memory slice, without a compute instance."""
        size = next(size for at, size in profile.placements if at == start)
        place = byref(pynvml.c_nvmlGpuInstancePlacement_t(start, size))
        what = f"make GPU instance {profile.name} at {start} on {self._name}"
        make = pynvml.nvmlDeviceCreateGpuInstanceWithPlacement
        return self._instance(call(what, make, self._handle, profile.id, place))

    def create_compute_instance(self, instance: Instance, profile: MigProfile) -> Instance:
        """Make the compute instance that takes all of a GPU instance."""
        what = f"make the compute instance of {profile.name} at {instance.start} on {self._name}"
        call(what, pynvml.nvmlGpuInstanceCreateComputeInstance, instance.handle, profile.compute_profile_id)
        return self._instance(instance.handle)

    def destroy(self, instance: Instance) -> None:
        """Destroy a GPU instance with its compute instances."""
        what = f"destroy GPU instance {instance.id} of {self._name}"
        for handle, _, _ in instance.compute:
            call(what, pynvml.nvmlComputeInstanceDestroy, handle)
        call(what, pynvml.nvmlGpuInstanceDestroy, instance.handle)

    def uuids(self) -> dict[tuple[int, int], GpuUuid]:
        """UUID of each MIG device, by the ids of its GPU instance and compute instance."""
        what = f"list the MIG devices of {self._name}"
        found = {}
        for index in range(call(what, pynvml.nvmlDeviceGetMaxMigDeviceCount, self._handle)):
            get = pynvml.nvmlDeviceGetMigDeviceHandleByIndex
            device = optional(what, get, self._handle, index, absent=(*_ABSENT, pynvml.NVML_ERROR_NOT_FOUND))
            if device is not None:
                instance = int(call(what, pynvml.nvmlDeviceGetGpuInstanceId, device))
                compute = int(call(what, pynvml.nvmlDeviceGetComputeInstanceId, device))
                found[instance, compute] = GpuUuid(text(call(what, pynvml.nvmlDeviceGetUUID, device)))
        return found


def support_of(card: MigCard, mode: Mode) -> MigSupport | None:
    """What the card, which is in that mode, can do of MIG; None where this process may not configure it."""
    if not (profiles := card.profiles()):
        return None
    return MigSupport(enabled=mode.enabled, switchable=mode.enabled == mode.pending, profiles=profiles)


def instances_of(card: MigCard, support: MigSupport) -> tuple[MigInstance, ...]:
    """The instances that are whole MIG devices."""
    if not support.enabled:
        return ()
    uuids = card.uuids()
    profiles = {profile.id: profile for profile in support.profiles}
    found = [(instance, profiles[instance.profile_id]) for instance in card.instances(support.profiles)]
    return tuple(
        MigInstance(
            profile=profile.name,
            start=instance.start,
            uuid=uuid,
            gpu_instance_id=instance.id,
            compute_instance_id=instance.compute[0][1],
            memory_bytes=profile.memory_bytes,
        )
        for instance, profile in found
        if (uuid := whole_uuid(instance, profile, uuids)) is not None
    )


def whole_uuid(instance: Instance, profile: MigProfile, uuids: dict[tuple[int, int], GpuUuid]) -> GpuUuid | None:
    """UUID of the MIG device that takes all of the instance; None where it is not made, or made otherwise."""
    if len(instance.compute) != 1 or instance.compute[0][2] != profile.compute_profile_id:
        return None
    return uuids.get((instance.id, instance.compute[0][1]))


def _listed(what: str, function: Callable[..., object], of: Any, key: int, room: Array[Any]) -> list[Any]:
    """What a function of NVML writes into an array, with the count that it says."""
    count = c_uint(len(room))
    if optional(what, function, of, key, room, byref(count)) is None:
        return []
    return list(room[: count.value])
