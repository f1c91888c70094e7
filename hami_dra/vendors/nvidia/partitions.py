"""Makes and removes MIG partitions: GPU instances with the compute instance that takes all of them.

Each call brings one card from whatever state it finds, half made instances of a killed process included, to the one that was
asked for, or changes nothing and says why not.  Whose an instance is, and whether anybody needs it, is for the caller to know;
two calls for one card must not run at once, whatever their process.

The MIG mode is switched only on a card that nobody uses.  A card that accepts the switch for its next reset only (on Ampere most
virtual machines do) gets its old wish back: a reset takes the GPU away from everybody, and is an administrator's.  Such a card
is remembered as fixed in its mode, so that it is not offered in the other one until the mode has changed.
"""

import contextlib
import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from hami_dra.core.errors import DriverError, PartitionRefused
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import DeviceFile, LivePartition, MigProfile, Partition
from hami_dra.vendors.nvidia.driver_root import Root
from hami_dra.vendors.nvidia.mig import Instance, MigCard, Mode, Switch, whole_uuid
from hami_dra.vendors.nvidia.session import Session
from hami_dra.vendors.pci import address

__all__ = ["MigPartitions"]

_log = logging.getLogger(__name__)

_MINOR = re.compile(r"DeviceFileMinor:\s*([0-9]+)")
_CAPS = re.compile(r"^\s*([0-9]+) nvidia-caps$", re.MULTILINE)


class MigPartitions:
    """The partitions of NVIDIA's cards.  Safe to use from several threads as long as they work on different cards."""

    def __init__(self, *, session: Session, devices: Root, proc: Path) -> None:
        """Work through that session; capability files are named by the procfs at `proc` and lie below `devices`."""
        self._session = session
        self._devices = devices
        self._proc = proc
        self._fixed: dict[DeviceName, bool] = {}
        """Cards that need a reset to leave the mode in which they are, and that mode; one entry is written at a time."""

    def is_fixed(self, gpu: DeviceName, *, enabled: bool) -> bool:
        """Whether the card, which is in that mode, is known to leave it by a reset only."""
        if self._fixed.get(gpu) is not enabled:
            self._fixed.pop(gpu, None)
        return gpu in self._fixed

    @property
    def fixed(self) -> Collection[DeviceName]:
        """The cards that are known to leave their mode by a reset only."""
        return tuple(self._fixed)

    def ensure(self, partition: Partition, *, make: bool) -> LivePartition:
        """The partition, made if it is not there and `make` says so.

        Raises:
            PartitionRefused: the card cannot have it, or not now.
            DriverError: NVML failed, or a file of the instance cannot be found.
        """
        with self._card(partition.gpu) as card:
            self._enter_mig_mode(card, partition, make=make)
            profiles = card.profiles()
            profile = _profile(profiles, partition)
            instance = _find(card.instances(profiles), partition, profile)
            if instance is None and not make:
                raise PartitionRefused(f"device {partition.name} is gone: somebody destroyed the instance that it was")
            if instance is not None and instance.compute:
                return self._describe(card, instance, profile)
            return self._finish(card, instance or card.create_instance(profile, partition.start), profile, make=make)

    def remove(self, partition: Partition) -> None:
        """Destroy the partition; none is no error.

        Raises:
            DriverError: it is still there, for instance because a process still uses it.
        """
        with self._card(partition.gpu) as card:
            mode = card.mode()
            if mode is not None and mode.enabled:
                profiles = card.profiles()
                found = next((profile for profile in profiles if profile.name == partition.profile), None)
                if found is not None:
                    _destroy(card, found, partition.start)

    def live(self, gpu: DeviceName) -> frozenset[Partition]:
        """The partitions that exist on a card, whoever made them, half made ones included.

        Raises:
            DriverError: NVML failed.
        """
        with self._card(gpu) as card:
            mode = card.mode()
            if mode is None or not mode.enabled:
                return frozenset()
            profiles = card.profiles()
            names = {profile.id: profile.name for profile in profiles}
            return frozenset(
                Partition(gpu=gpu, profile=names[instance.profile_id], start=instance.start)
                for instance in card.instances(profiles)
            )

    def make_whole(self, gpu: DeviceName) -> None:
        """Bring a card out of MIG mode, so that it can be used as one device; one that is not in it stays as it is.

        Raises:
            PartitionRefused: it has instances or processes, or needs a reset.
            DriverError: NVML failed.
        """
        with self._card(gpu) as card:
            mode = card.mode()
            if mode is None or not mode.enabled:
                return
            instances = card.instances(card.profiles())
            if instances:
                ids = ", ".join(str(instance.id) for instance in instances)
                raise PartitionRefused(
                    f"device {gpu} is in MIG mode and has GPU instances ({ids}), so it cannot be used as one device:"
                    " destroy them if nobody needs them (nvidia-smi mig -dci, then -dgi)"
                )
            self._switch(card, mode, gpu, enabled=False)

    def _switch(self, card: MigCard, mode: Mode, gpu: DeviceName, *, enabled: bool) -> None:
        status = _switch(card, mode, gpu, enabled=enabled)
        if status is Switch.NEEDS_RESET and gpu not in self._fixed:
            self._fixed[gpu] = mode.enabled
            _log.warning(
                "GPU %s leaves its mode (MIG %s) by a reset only; it is offered in that mode until it has changed: drain the node"
                " and run nvidia-smi -mig %d and nvidia-smi --gpu-reset, or restart the machine",
                gpu,
                "on" if mode.enabled else "off",
                enabled,
            )
        if status is not Switch.DONE:
            word = "on" if enabled else "off"
            why = (
                "it takes a reset: drain the node and run"
                if status is Switch.NEEDS_RESET
                else "either a client of the driver holds the card (DCGM, nvidia-persistenced, a display), or it takes a reset:"
                " stop the client, or drain the node and run"
            )
            raise PartitionRefused(
                f"device {gpu}: MIG was not switched {word}; {why} nvidia-smi -mig {int(enabled)} and nvidia-smi --gpu-reset"
            )

    @contextlib.contextmanager
    def _card(self, gpu: DeviceName) -> Iterator[MigCard]:
        with self._session.opened() as nvml:
            yield nvml.mig(address(gpu))

    def _enter_mig_mode(self, card: MigCard, partition: Partition, *, make: bool) -> None:
        mode = card.mode()
        if mode is None:
            raise PartitionRefused(f"device {partition.name}: the card has no MIG")
        if mode.enabled:
            return
        if not make:
            raise PartitionRefused(f"device {partition.name} is gone: the card is not in MIG mode any more")
        self._switch(card, mode, partition.gpu, enabled=True)

    def _finish(self, card: MigCard, instance: Instance, profile: MigProfile, *, make: bool) -> LivePartition:
        """Gives a GPU instance its compute instance, or destroys it."""
        if not make:
            return self._describe(card, instance, profile)
        try:
            return self._describe(card, card.create_compute_instance(instance, profile), profile)
        except (DriverError, PartitionRefused):
            with contextlib.suppress(DriverError):
                _destroy(card, profile, instance.start)
            raise

    def _describe(self, card: MigCard, instance: Instance, profile: MigProfile) -> LivePartition:
        """The live partition that a GPU instance is."""
        uuid = whole_uuid(instance, profile, card.uuids())
        if uuid is None:
            raise PartitionRefused(
                f"GPU instance {instance.id} ({profile.name} at {instance.start}) has {len(instance.compute)} compute instances,"
                " none of which takes all of it: it cannot be used as one device"
            )
        entry = f"gpu{card.minor()}/mig/gi{instance.id}"
        files = (self._capability(f"{entry}/access"), self._capability(f"{entry}/ci{instance.compute[0][1]}/access"))
        return LivePartition(uuid=uuid, device_files=files)

    def _capability(self, entry: str) -> DeviceFile:
        """The device file that gives a container one capability.

        Source: NVIDIA's MIG user guide, "Device Nodes and Capabilities".
        """
        path = self._proc / "driver/nvidia/capabilities" / entry
        try:
            found = _MINOR.search(path.read_text())
            majors = _CAPS.search(_text_or_nothing(self._proc / "devices"))
        except OSError as error:
            raise DriverError(f"cannot read the MIG capability {path}: {error.strerror}") from error
        if found is None:
            raise DriverError(f"the MIG capability {path} names no DeviceFileMinor")
        name = f"nvidia-caps/nvidia-cap{found[1]}"
        file = self._devices.device(name)
        if file is not None:
            return file
        if majors is None:
            raise DriverError(f"/dev/{name} is not there: is nvidia-modprobe installed on the node?")
        number = (int(majors[1]), int(found[1]))
        return DeviceFile(host_path=f"/dev/{name}", container_path=f"/dev/{name}", number=number)


def _profile(profiles: tuple[MigProfile, ...], partition: Partition) -> MigProfile:
    for profile in profiles:
        if profile.name == partition.profile and any(start == partition.start for start, _ in profile.placements):
            return profile
    known = ", ".join(profile.name for profile in profiles) or "nothing that this process may configure"
    raise PartitionRefused(
        f"device {partition.name}: the card has no profile {partition.profile} at memory slice {partition.start}, but {known}"
    )


def _find(instances: list[Instance], partition: Partition, profile: MigProfile) -> Instance | None:
    """The partition's instance; None where its place is free."""
    size = next(size for start, size in profile.placements if start == partition.start)
    for instance in instances:
        if (instance.profile_id, instance.start) == (profile.id, partition.start):
            return instance
        if instance.overlaps(partition.start, size):
            raise PartitionRefused(
                f"device {partition.name}: its place is taken by GPU instance {instance.id} on memory slices"
                f" {instance.start} to {instance.start + instance.size - 1}, which another program made"
            )
    return None


def _destroy(card: MigCard, profile: MigProfile, start: int) -> None:
    for instance in card.instances((profile,)):
        if instance.start == start:
            card.destroy(instance)


def _switch(card: MigCard, mode: Mode, gpu: DeviceName, *, enabled: bool) -> Switch:
    """Switch the mode of a card that nobody uses, or leave it as it was."""
    word = "on" if enabled else "off"
    if users := card.users():
        raise PartitionRefused(
            f"device {gpu}: MIG cannot be switched {word} while processes use the card ({', '.join(map(str, users))})"
        )
    status = card.set_mode(enabled=enabled)
    if status is Switch.DONE and (now := card.mode()) is not None and now.enabled == enabled:
        return status
    card.set_mode(enabled=mode.enabled)
    return Switch.IN_USE if status is Switch.DONE else status


def _text_or_nothing(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
