"""Ids that must not be mixed up.

Each is a plain string at run time; the type checker keeps a claim's UID from being used as a device's name.
"""

from typing import NewType

__all__ = ["ClaimUid", "DeviceName", "GpuUuid", "NodeName", "PodUid", "PoolName", "RequestName", "ShareId", "ShareKey"]

ClaimUid = NewType("ClaimUid", str)
"""`metadata.uid` of a ResourceClaim."""

DeviceName = NewType("DeviceName", str)
"""Name of a device within its pool, for instance `gpu-0000-17-00-0`."""

GpuUuid = NewType("GpuUuid", str)
"""What the vendor's library calls the device, for instance `GPU-5f4e…`."""

NodeName = NewType("NodeName", str)
"""`metadata.name` of a Node."""

PodUid = NewType("PodUid", str)
"""`metadata.uid` of a pod."""

PoolName = NewType("PoolName", str)
"""Name of a ResourceSlice pool, `<node>/gpu`."""

RequestName = NewType("RequestName", str)
"""Name of a request in a claim as an allocation result spells it: `req` or `req/sub`."""

ShareId = NewType("ShareId", str)
"""`shareID` of an allocation result on a device that allows multiple allocations (KEP-5075)."""

ShareKey = NewType("ShareKey", str)
"""Name of a share's directory: `<device>-<shareID>`, or `<device>` where the allocation has no shareID."""
