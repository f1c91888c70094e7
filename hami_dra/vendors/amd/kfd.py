"""KFD's topology: the GPUs, or partitions of GPUs, that ROCm can compute on.

Sources: Linux, Documentation/gpu/amdgpu/driver-misc.rst and drivers/gpu/drm/amd/amdkfd/kfd_topology.c.  A card that is cut
has one node for each partition; the low three bits of `location_id` are then the partition's number instead of a PCI function.
Node numbers and render minors change with every cut, so that neither names anything of ours.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hami_dra.core.errors import DriverError
from hami_dra.vendors.amd.text import entries, fields, text

__all__ = ["TOPOLOGY", "KfdNode", "card_nodes", "gfx_name", "read_nodes"]

TOPOLOGY = "class/kfd/kfd/topology"
"""Below sysfs."""
_NODE = re.compile(r"[0-9]{1,6}", re.ASCII)
_FRAME_BUFFER_HEAPS = (1, 2)
"""Public and private: device memory that the host can and cannot reach."""
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class KfdNode:
    """One GPU, or one partition of a GPU.  None where this kernel does not say."""

    card: tuple[int, int]
    """PCI domain, and bus and device as in `location_id >> 3`: the same for all partitions of a card."""
    index: int
    """Which partition of its card."""
    render_minor: int | None
    gfx: str | None
    compute_units: int | None
    dies: int | None
    """Compute dies (XCC): a card can be cut between them."""
    memory_bytes: int | None


def read_nodes(topology: Path) -> list[KfdNode]:
    """The GPU nodes, those of a card in the order of its partitions.

    Raises:
        DriverError: the topology changes faster than it can be read.
    """
    for _ in range(_ATTEMPTS):
        generation = text(topology / "generation_id")
        found = [_node(path) for _, path in entries(topology / "nodes", _NODE)]
        if text(topology / "generation_id") == generation:
            return sorted((node for node in found if node is not None), key=lambda node: (node.card, node.index))
    raise DriverError(f"{topology} changed while it was read {_ATTEMPTS} times: is a card being partitioned?")


def card_nodes(nodes: Iterable[KfdNode], pci: str) -> list[KfdNode]:
    """Those of the card at a PCI address."""
    domain, bus, rest = pci.split(":")
    place = int(domain, 16), int(bus, 16) << 5 | int(rest.partition(".")[0], 16)
    return [node for node in nodes if node.card == place]


def gfx_name(version: int) -> str:
    """`gfx90a` for 90010: major, minor and stepping in two decimal digits each, printed as hexadecimal ones."""
    return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"


def _node(path: Path) -> KfdNode | None:
    """None for a CPU, and for a node that the device cgroup of this process hides."""
    properties = fields(text(path / "properties") or "")
    location = properties.get("location_id")
    if not properties.get("simd_count") or not properties.get("gfx_target_version") or location is None:
        return None
    per_unit = properties.get("simd_per_cu")
    return KfdNode(
        card=(properties.get("domain", 0), location >> 3),
        index=location & 7,
        render_minor=properties.get("drm_render_minor") or None,
        gfx=gfx_name(properties["gfx_target_version"]),
        compute_units=properties["simd_count"] // per_unit if per_unit else None,
        dies=properties.get("num_xcc"),
        memory_bytes=_memory(path / "mem_banks"),
    )


def _memory(banks: Path) -> int | None:
    """Of the node's own frame buffer; `local_mem_size` says 0 on current kernels."""
    found = [fields(text(path / "properties") or "") for _, path in entries(banks, _NODE)]
    sizes = [bank.get("size_in_bytes", 0) for bank in found if bank.get("heap_type") in _FRAME_BUFFER_HEAPS]
    return sum(sizes) or None
