"""From an allocation to what each share means: the one place where configuration is merged, defaulted and checked.

Controller and node plugin both call `resolve`, so what a user reads in the claim's status is what the node does.  Inputs are
the allocation (`core.allocation`) and nothing of the node: sizes come from `consumedCapacity`, what the scheduler charged;
where a whole device was allocated they stay None and `core.plan`, which knows the device, fills them in.
"""

from dataclasses import dataclass

from hami_dra.api.opaque import ConfigError, GpuConfig, Isolation, Priority, Qos, decode
from hami_dra.api.quantity import format_bytes
from hami_dra.core.allocation import Allocation, Result
from hami_dra.core.errors import InvalidConfig
from hami_dra.core.ids import DeviceName, PoolName, RequestName, ShareId, ShareKey

__all__ = ["ShareSpec", "resolve"]

_MERGED = ("isolation", "qos", "priority")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSpec:
    """One share of one device, as the claim means it."""

    request: RequestName
    pool: PoolName
    device: DeviceName
    share_id: ShareId | None
    key: ShareKey
    admin_access: bool
    memory_bytes: int | None
    """Device memory of the share; None: the whole device."""
    cores_percent: int
    """Percent of one device's compute; 0: none promised and none enforced."""
    isolation: Isolation
    qos: Qos
    priority: Priority
    oversubscription_bytes: int = 0
    """Managed memory allowed beyond the share's memory."""

    @property
    def base_request(self) -> str:
        """The name that a pod's containers refer to: `req` of `req/sub`."""
        return self.request.partition("/")[0]


def resolve(allocation: Allocation) -> tuple[ShareSpec, ...]:
    """One ShareSpec for each result of the allocation, in its order.

    Raises:
        InvalidConfig: parameters that cannot be decoded or combined; the message names the claim, the entry and the field.
    """
    return tuple(_share(allocation, result) for result in allocation.results)


def _share(allocation: Allocation, result: Result) -> ShareSpec:
    where = f"claim {allocation.namespace}/{allocation.name}, request {result.request}"
    merged = _merge(where, result)
    if result.admin_access:
        return _monitor(result)
    cores = result.cores_percent or 0
    whole = result.share_id is None
    isolation = merged.isolation or (Isolation.NONE if whole else Isolation.GUARD)
    qos = merged.qos or (Qos.FIXED_SHARE if cores else Qos.BEST_EFFORT)
    if qos is not Qos.BEST_EFFORT and not cores and not whole:
        raise InvalidConfig(
            f"{where}: qos {qos} needs cores, but the request has none; add capacity.requests.cores or use qos BestEffort"
        )
    if qos is Qos.BEST_EFFORT and cores:
        raise InvalidConfig(
            f"{where}: qos BestEffort promises no cores, but the request has cores {cores}; drop one of the two"
        )
    beyond = (merged.memory and merged.memory.oversubscription) or 0
    if beyond and isolation is not Isolation.GUARD:
        raise InvalidConfig(
            f"{where}: memory.oversubscription {format_bytes(beyond)} needs isolation Guard, but isolation is {isolation};"
            " set isolation Guard or drop memory.oversubscription"
        )
    return ShareSpec(
        request=result.request,
        pool=result.pool,
        device=result.device,
        share_id=result.share_id,
        key=result.key,
        admin_access=result.admin_access,
        memory_bytes=result.memory_bytes,
        cores_percent=cores,
        isolation=isolation,
        qos=qos,
        priority=merged.priority or Priority.NORMAL,
        oversubscription_bytes=beyond,
    )


def _monitor(result: Result) -> ShareSpec:
    """Admin access (KEP-5018): the device as it is, in use or not; nothing is consumed, so nothing is held.

    What the scheduler wrote down is kept, to tell this allocation from another.
    """
    return ShareSpec(
        request=result.request,
        pool=result.pool,
        device=result.device,
        share_id=result.share_id,
        key=result.key,
        admin_access=True,
        memory_bytes=result.memory_bytes,
        cores_percent=result.cores_percent or 0,
        isolation=Isolation.NONE,
        qos=Qos.BEST_EFFORT,
        priority=Priority.NORMAL,
        oversubscription_bytes=0,
    )


def _merge(where: str, result: Result) -> GpuConfig:
    """The entries that apply to the result, field by field: the last one that sets a field wins."""
    merged: dict[str, object] = {}
    for config in result.configs:
        try:
            decoded = decode(config.parameters)
        except ConfigError as error:
            origin = "the claim" if config.source == "FromClaim" else "the DeviceClass"
            raise InvalidConfig(f"{where}: GpuConfig of {origin} (config[{config.index}]): {error}") from error
        merged |= {name: value for name in _MERGED if (value := getattr(decoded, name)) is not None}
        if decoded.memory is not None and decoded.memory.oversubscription is not None:
            merged["memory"] = decoded.memory
    return GpuConfig.model_validate({"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig"} | merged)
