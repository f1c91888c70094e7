"""From an allocation to what each share means: the one place where configuration is merged, defaulted and checked.

Controller and node plugin both call `resolve`, so what a user reads in the claim's status is what the node does.  Inputs are
the allocation (`core.allocation`) and nothing of the node: sizes come from `consumedCapacity`, what the scheduler charged;
where a whole device was allocated they stay None and `core.plan`, which knows the device, fills them in.
"""

from hami_dra.api.opaque import ConfigError, GpuConfig, Interval, Isolation, Limits, Priority, Qos, TimeSlicing, decode
from hami_dra.api.quantity import format_bytes
from hami_dra.core.allocation import Allocation, Result
from hami_dra.core.errors import InvalidConfig
from hami_dra.core.inventory import fixed_share_index
from hami_dra.core.modes import check_combination, check_requests
from hami_dra.core.share import ShareSpec

__all__ = ["resolve"]

_MERGED = ("isolation", "qos", "priority", "deviceMetadata")
_LIMITS = ("memory", "cores")


def resolve(allocation: Allocation) -> tuple[ShareSpec, ...]:
    """One ShareSpec for each result of the allocation, in its order.

    Raises:
        InvalidConfig: parameters that cannot be decoded or combined; the message names the claim, the entry and the field.
    """
    specs = tuple(_share(allocation, result) for result in allocation.results)
    check_requests(f"claim {allocation.namespace}/{allocation.name}", specs)
    return specs


def _share(allocation: Allocation, result: Result) -> ShareSpec:
    where = f"claim {allocation.namespace}/{allocation.name}, request {result.request}"
    merged = _merge(where, result)
    if result.admin_access:
        return _monitor(result, merged)
    fixed = fixed_share_index(result.device) is not None
    whole = result.share_id is None and not fixed
    limits = merged.limits or Limits()
    isolation = merged.isolation or (Isolation.NONE if whole else Isolation.GUARD)
    beyond = (merged.memory and merged.memory.oversubscription) or 0
    if merged.limits and not fixed:
        raise InvalidConfig(
            f"{where}: limits are for fixed shares, but device {result.device} is none; ask for less by capacity.requests"
        )
    if fixed and isolation is Isolation.NONE:
        raise InvalidConfig(
            f"{where}: isolation None is for whole cards, but device {result.device} is a fixed share of one; use isolation Guard"
        )
    if beyond and isolation is not Isolation.GUARD:
        raise InvalidConfig(
            f"{where}: memory.oversubscription {format_bytes(beyond)} needs isolation Guard, but isolation is {isolation};"
            " set isolation Guard or drop memory.oversubscription"
        )
    check_combination(where, merged, isolation=isolation, result=result)
    return ShareSpec(
        request=result.request,
        pool=result.pool,
        device=result.device,
        share_id=result.share_id,
        key=result.key,
        admin_access=result.admin_access,
        memory_bytes=result.memory_bytes,
        cores_percent=result.cores_percent or 0,
        isolation=isolation,
        qos=_qos(where, result, merged, fixed=fixed),
        priority=merged.priority or Priority.NORMAL,
        oversubscription_bytes=beyond,
        limit_memory_bytes=limits.memory,
        limit_cores_percent=limits.cores,
        device_metadata=bool(merged.deviceMetadata),
        interval=_interval(merged) if isolation is Isolation.TIME_SLICING else None,
    )


def _interval(merged: GpuConfig) -> Interval:
    return (merged.timeSlicing or TimeSlicing()).interval or Interval.DEFAULT


def _monitor(result: Result, merged: GpuConfig) -> ShareSpec:
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
        device_metadata=bool(merged.deviceMetadata),
    )


def _qos(where: str, result: Result, merged: GpuConfig, *, fixed: bool) -> Qos:
    """What the share's cores mean; a fixed share has some without asking."""
    asked = (merged.limits.cores if merged.limits else None) if fixed else result.cores_percent
    promised = bool(asked) or (fixed and asked is None and merged.isolation is not Isolation.TIME_SLICING)
    qos = merged.qos or (Qos.FIXED_SHARE if promised else Qos.BEST_EFFORT)
    if qos is not Qos.BEST_EFFORT and not promised and (fixed or result.share_id is not None):
        remedy = "limits.cores is 0; raise it" if fixed else "the request has none; add capacity.requests.cores"
        raise InvalidConfig(f"{where}: qos {qos} needs cores, but {remedy} or use qos BestEffort")
    if qos is Qos.BEST_EFFORT and asked:
        what = "limits.cores is" if fixed else "the request has cores"
        raise InvalidConfig(f"{where}: qos BestEffort promises no cores, but {what} {asked}; drop one of the two")
    return qos


def _merge(where: str, result: Result) -> GpuConfig:
    """The entries that apply to the result, field by field: the last one that sets a field wins."""
    merged: dict[str, object] = {}
    limits: dict[str, int] = {}
    for config in result.configs:
        try:
            decoded = decode(config.parameters)
        except ConfigError as error:
            origin = "the claim" if config.source == "FromClaim" else "the DeviceClass"
            raise InvalidConfig(f"{where}: GpuConfig of {origin} (config[{config.index}]): {error}") from error
        merged |= {name: value for name in _MERGED if (value := getattr(decoded, name)) is not None}
        if decoded.memory is not None and decoded.memory.oversubscription is not None:
            merged["memory"] = decoded.memory
        if decoded.timeSlicing is not None and decoded.timeSlicing.interval is not None:
            merged["timeSlicing"] = decoded.timeSlicing
        if decoded.limits is not None:
            limits |= {name: value for name in _LIMITS if (value := getattr(decoded.limits, name)) is not None}
    if limits:
        merged["limits"] = Limits(**limits)
    return GpuConfig.model_validate({"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig"} | merged)
