"""Cuts AMD's cards: one write to sysfs makes all partitions of a card, or joins them.

A card has one compute mode at a time (SPX: whole; DPX, TPX, QPX: 2, 3, 4 parts; CPX: one for each of its dies), and the kernel
changes it on an idle card only.  Counters of the API cannot say "all of one mode", so a card is offered in one mode beside the
whole: the finest that its memory mode allows.  A partition is no object that somebody made: it is there while the mode is, and
whoever needs one has the card cut.  The memory mode (NPS) takes a reload of the driver, and is an administrator's.
Source: Linux, Documentation/gpu/amdgpu/driver-misc.rst.
"""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from hami_dra.core.errors import DriverError, PartitionRefused
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import DeviceFile, LivePartition, MigProfile, MigSupport, Partition
from hami_dra.vendors.amd.kfd import TOPOLOGY, KfdNode, card_nodes, read_nodes
from hami_dra.vendors.amd.text import text
from hami_dra.vendors.pci import address

__all__ = ["AmdPartitions", "support_of", "write"]

_WHOLE = "SPX"
_PARTS = {"DPX": 2, "TPX": 3, "QPX": 4}
_CURRENT = "current_compute_partition"
_PAGE = 4096
_NPS = re.compile(r"NPS(?P<domains>[1-8])")


def support_of(card: Path, nodes: list[KfdNode], *, memory_bytes: int) -> MigSupport | None:
    """Into what a card can be cut; None where the kernel offers no choice, or does not say how many dies there are."""
    available = re.findall(r"[A-Z]{3}", text(card / "available_compute_partition") or "")
    dies = sum(node.dies or 0 for node in nodes)
    memory = _NPS.fullmatch(text(card / "current_memory_partition") or "NPS1")
    if _WHOLE not in available or memory is None or text(card / _CURRENT) is None:
        return None
    parts = {mode: dies if mode == "CPX" else _PARTS.get(mode, 0) for mode in available}
    sound = {mode: n for mode, n in parts.items() if n > 1 and dies % n == 0 and n >= int(memory["domains"])}
    if not sound:
        return None
    mode = max(sound, key=lambda name: sound[name])
    units = sum(node.compute_units or 0 for node in nodes)
    profile = MigProfile(
        name=mode.lower(),
        id=0,
        compute_profile_id=0,
        # What KFD lets the processes of one partition have, in every memory mode.
        memory_bytes=memory_bytes // sound[mode] // _PAGE * _PAGE,
        compute_slices=1,
        memory_slices=1,
        multiprocessors=units // sound[mode],
        instances=sound[mode],
        placements=tuple((start, 1) for start in range(sound[mode])),
    )
    # Whatever its mode is now, an idle card can be used as one device.
    return MigSupport(enabled=False, switchable=True, profiles=(profile,))


def write(path: Path, word: str) -> None:
    """Write to a file of sysfs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, word.encode("ascii"))
    finally:
        os.close(descriptor)


class AmdPartitions:
    """The partitions of AMD's cards.  Safe to use from several threads as long as they work on different cards."""

    def __init__(
        self, *, sysfs: Path, device: Callable[[str], DeviceFile | None], switch: Callable[[Path, str], None] = write
    ) -> None:
        """Work on the cards that `sysfs` shows.

        Args:
            sysfs: where sysfs is mounted.
            device: gives the device file of a name below /dev.
            switch: writes a compute mode.
        """
        self._sysfs = sysfs
        self._device = device
        self._switch = switch

    def ensure(self, partition: Partition, *, make: bool) -> LivePartition:
        """The partition; the card is cut if it is not and `make` says so.

        Raises:
            PartitionRefused: the card cannot be cut like this, or not now.
            DriverError: the kernel did not do what it said.
        """
        mode = partition.profile.upper()
        self._enter(partition.gpu, mode, make=make, who=partition.name)
        nodes = card_nodes(read_nodes(self._sysfs / TOPOLOGY), address(partition.gpu))
        node = next((node for node in nodes if node.index == partition.start), None)
        if node is None or node.render_minor is None:
            raise DriverError(
                f"device {partition.name}: the card is in mode {mode}, but KFD shows {len(nodes)} partitions of it and no"
                f" render node of number {partition.start}; it is tried again"
            )
        file = self._device(f"dri/renderD{node.render_minor}")
        if file is None:
            raise DriverError(f"device {partition.name}: /dev/dri/renderD{node.render_minor} is not there")
        return LivePartition(uuid=GpuUuid(partition.name), device_files=(file,), alone=True)

    def remove(self, partition: Partition) -> None:
        """Nothing: the card stays cut until somebody needs it whole."""

    def live(self, gpu: DeviceName) -> frozenset[Partition]:  # noqa: ARG002 - as the Protocol has it
        """None: a partition belongs to nobody, so that whoever needs one may have it made."""
        return frozenset()

    def make_whole(self, gpu: DeviceName) -> None:
        """Join the partitions of a card.

        Raises:
            PartitionRefused: somebody uses one of them.
            DriverError: the kernel did not do what it said.
        """
        self._enter(gpu, _WHOLE, make=True, who=gpu)

    def _enter(self, gpu: DeviceName, mode: str, *, make: bool, who: str) -> None:
        file = self._card(gpu) / _CURRENT
        if text(file) == mode:
            return
        if not make:
            raise PartitionRefused(f"device {who} is gone: the card is in mode {text(file)}, not {mode}, any more")
        try:
            self._switch(file, mode)
        except OSError as error:
            raise _refusal(who, mode, error) from error
        if (found := text(file)) != mode:
            raise DriverError(f"device {who}: mode {mode} was written to {file}, but the kernel says {found}")

    def _card(self, gpu: DeviceName) -> Path:
        return self._sysfs / "bus/pci/devices" / address(gpu)


def _refusal(who: str, mode: str, error: OSError) -> PartitionRefused | DriverError:
    if error.errno == errno.EBUSY:
        return PartitionRefused(
            f"device {who}: the card cannot be switched to mode {mode} while a process uses it; end what uses /dev/kfd or its"
            " render nodes outside of Kubernetes (lsof /dev/kfd)"
        )
    if error.errno == errno.EINVAL:
        return PartitionRefused(
            f"device {who}: the kernel does not take mode {mode} for this card: its memory mode (current_memory_partition) may"
            " not allow it"
        )
    return DriverError(f"device {who}: cannot switch the card to mode {mode}: {error.strerror}")
