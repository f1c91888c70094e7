"""Device memory of pods, capped by the kernel: the dmem controller of cgroup v2 (Linux 6.14).

A GPU driver registers regions (amdgpu: `drm/<PCI address>/vram`); what the processes below a cgroup allocate in a region is
charged to it, and refused above `dmem.max`.  The cap is put on the pod's cgroup, which kubelet makes before it asks for the pod's
claims to be prepared, so that it holds before a container runs.  Source: Linux, Documentation/admin-guide/cgroup-v2.rst, and
kernel/cgroup/dmem.c; one region is written at a time, as the kernel wants it from 7.1 on.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import PodUid
from hami_dra.host.files import node_state_error

__all__ = ["DmemCgroups"]

_HOLDS_PODS = re.compile(r"kube|burstable|besteffort")
"""In the names of cgroups in which kubelet keeps those of pods, with the systemd driver and without; kind prefixes them."""
_POD = re.compile(r"(?:.*-)?pod(?P<uid>[0-9A-Za-z_-]+?)(?:\.slice)?")
"""Name of a pod's cgroup; the systemd driver writes `_` for `-`."""


class DmemCgroups:
    """The cgroups of this node's pods.  Safe to use from several threads as long as they work on different pods."""

    def __init__(self, root: Path) -> None:
        """`root` is where the node's own cgroup v2 hierarchy is mounted."""
        self._root = root

    def regions(self) -> frozenset[str]:
        """What can be capped; nothing where the kernel has no dmem controller."""
        try:
            lines = (self._root / "dmem.capacity").read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return frozenset()
        return frozenset(line.split()[0] for line in lines if line.strip())

    def cap(self, pod: PodUid, caps: Mapping[str, int | None]) -> bool:
        """Give the pod that many bytes of each region, None for all there are; false where it has no cgroup.

        Raises:
            NodeStateError: the kernel did not take a cap.
        """
        group = self._find(pod)
        if group is None:
            return False
        self._enable(group)
        file = group / "dmem.max"
        for region, cap_bytes in caps.items():
            wanted = "max" if cap_bytes is None else str(cap_bytes)
            _write(file, f"{region} {wanted}")
            if (found := _read(file).get(region)) != wanted:
                raise NodeStateError(f"{file}: {wanted} was written for {region}, but the kernel says {found}")
        return True

    def _find(self, pod: PodUid) -> Path | None:
        spelt = {pod, pod.replace("-", "_")}
        return next((path for uid, path in _pods(self._root) if uid in spelt), None)

    def _enable(self, group: Path) -> None:
        """Let the pod's cgroup have the controller: each one above it has to hand it down."""
        above = [self._root]
        for part in group.relative_to(self._root).parts[:-1]:
            above.append(above[-1] / part)
        for path in above:
            handed = path / "cgroup.subtree_control"
            try:
                if "dmem" not in handed.read_text(encoding="ascii").split():
                    _write(handed, "+dmem")
            except OSError as error:
                raise node_state_error("hand the dmem controller down to pods", handed, error) from error


def _read(path: Path) -> dict[str, str]:
    """What a file of the controller says of each region."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise node_state_error("read the cap of a pod", path, error) from error
    return {fields[0]: fields[1] for line in lines if len(fields := line.split()) > 1}


def _write(path: Path, line: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)  # a file of the kernel: not ours to make
        try:
            os.write(descriptor, line.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise node_state_error("cap the device memory of a pod", path, error) from error


def _pods(directory: Path) -> Iterator[tuple[str, Path]]:
    """UIDs of pods, as their cgroups spell them, and those cgroups."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return
    for path in paths:
        if (match := _POD.fullmatch(path.name)) is not None:
            yield match["uid"], path
        elif _HOLDS_PODS.search(path.name):
            yield from _pods(path)
