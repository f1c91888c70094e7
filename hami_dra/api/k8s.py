"""The part of `resource.k8s.io/v1` (and of core/v1) that this driver touches, as JSON comes and goes.

TypedDicts, not models: unknown fields pass through untouched, as a client older than its server must let them.
"""

from typing import Any, Literal, NotRequired, TypedDict

__all__ = [
    "AllocatedDeviceStatus",
    "AllocationConfig",
    "AllocationResult",
    "Attribute",
    "Capacity",
    "ClaimAllocation",
    "ClaimStatus",
    "Condition",
    "Counter",
    "CounterConsumption",
    "CounterSet",
    "Device",
    "DeviceAllocation",
    "DeviceTaint",
    "DeviceToleration",
    "JsonObject",
    "ObjectMeta",
    "ObjectReference",
    "OpaqueConfig",
    "OwnerReference",
    "Pool",
    "RequestPolicy",
    "ResourceClaim",
    "ResourceSlice",
    "ResourceSliceSpec",
    "ValidRange",
]

JsonObject = dict[str, Any]


class OwnerReference(TypedDict):
    """metav1.OwnerReference."""

    apiVersion: str
    kind: str
    name: str
    uid: str
    controller: NotRequired[bool]


class ObjectMeta(TypedDict, total=False):
    """metav1.ObjectMeta."""

    name: str
    generateName: str
    namespace: str
    uid: str
    resourceVersion: str
    generation: int
    deletionTimestamp: str
    labels: dict[str, str]
    annotations: dict[str, str]
    ownerReferences: list[OwnerReference]


class Attribute(TypedDict, total=False):
    """One of four kinds of value; exactly one key is set."""

    string: str
    int: int
    bool: bool
    version: str


class ValidRange(TypedDict):
    """Permitted quantities of a consumable capacity (KEP-5075)."""

    min: str
    max: NotRequired[str]
    step: NotRequired[str]


class RequestPolicy(TypedDict, total=False):
    """What a request may ask of a consumable capacity, and what it gets when it asks nothing."""

    default: str
    validRange: ValidRange
    validValues: list[str]


class Capacity(TypedDict):
    """A quantity that a device has."""

    value: str
    requestPolicy: NotRequired[RequestPolicy]


class DeviceTaint(TypedDict):
    """Keeps away claims that do not tolerate it (KEP-5055)."""

    key: str
    value: NotRequired[str]
    effect: Literal["None", "NoSchedule", "NoExecute"]
    timeAdded: NotRequired[str]
    """Set by the API server where it is left out."""


class Counter(TypedDict):
    """How much there is of something that devices share (KEP-4815)."""

    value: str


class CounterSet(TypedDict):
    """What the devices of one card share."""

    name: str
    counters: dict[str, Counter]


class CounterConsumption(TypedDict):
    """What a device takes of a counter set while it is allocated."""

    counterSet: str
    counters: dict[str, Counter]


class Device(TypedDict):
    """A device of a ResourceSlice."""

    name: str
    attributes: NotRequired[dict[str, Attribute]]
    capacity: NotRequired[dict[str, Capacity]]
    allowMultipleAllocations: NotRequired[bool]
    consumesCounters: NotRequired[list[CounterConsumption]]
    taints: NotRequired[list[DeviceTaint]]


class Pool(TypedDict):
    """Which pool a slice belongs to and how many slices make it complete."""

    name: str
    generation: int
    resourceSliceCount: int


class ResourceSliceSpec(TypedDict):
    """ResourceSlice.spec, for slices local to one node."""

    driver: str
    nodeName: NotRequired[str]
    pool: Pool
    devices: NotRequired[list[Device]]
    sharedCounters: NotRequired[list[CounterSet]]


class ResourceSlice(TypedDict):
    """resource.k8s.io/v1 ResourceSlice."""

    apiVersion: NotRequired[str]
    kind: NotRequired[str]
    metadata: ObjectMeta
    spec: ResourceSliceSpec


class OpaqueConfig(TypedDict):
    """Configuration that only the named driver understands."""

    driver: str
    parameters: Any


class AllocationConfig(TypedDict):
    """One entry of `status.allocation.devices.config`."""

    source: Literal["FromClass", "FromClaim"]
    requests: NotRequired[list[str]]
    opaque: NotRequired[OpaqueConfig]


class DeviceToleration(TypedDict, total=False):
    """With which taints a device is wanted all the same; without a key: with all."""

    key: str
    effect: str


class AllocationResult(TypedDict):
    """One allocated device."""

    request: str
    driver: str
    pool: str
    device: str
    adminAccess: NotRequired[bool]
    shareID: NotRequired[str]
    consumedCapacity: NotRequired[dict[str, str]]
    tolerations: NotRequired[list[DeviceToleration]]


class DeviceAllocation(TypedDict, total=False):
    """`status.allocation.devices`."""

    results: list[AllocationResult]
    config: list[AllocationConfig]


class ClaimAllocation(TypedDict, total=False):
    """`status.allocation`."""

    devices: DeviceAllocation
    nodeSelector: JsonObject


class Condition(TypedDict):
    """metav1.Condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    lastTransitionTime: NotRequired[str]


class AllocatedDeviceStatus(TypedDict):
    """One entry of `status.devices`; driver, pool, device and shareID are its key."""

    driver: str
    pool: str
    device: str
    shareID: NotRequired[str]
    conditions: NotRequired[list[Condition] | None]
    """The API server shows an entry without conditions with null."""
    data: NotRequired[JsonObject]


class ClaimStatus(TypedDict, total=False):
    """ResourceClaim.status."""

    allocation: ClaimAllocation
    devices: list[AllocatedDeviceStatus]
    reservedFor: list[JsonObject]


class ResourceClaim(TypedDict):
    """resource.k8s.io/v1 ResourceClaim."""

    apiVersion: NotRequired[str]
    kind: NotRequired[str]
    metadata: ObjectMeta
    spec: NotRequired[JsonObject]
    status: NotRequired[ClaimStatus]


class ObjectReference(TypedDict, total=False):
    """What an Event is about."""

    apiVersion: str
    kind: str
    namespace: str
    name: str
    uid: str
    resourceVersion: str
