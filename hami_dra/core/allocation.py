"""A claim's allocation, read for one driver.

Takes the JSON of a ResourceClaim and gives the results that belong to this driver and, for each, the opaque parameters that
apply to it in order of precedence.  It does not decode the parameters (`core.resolve` does) and never looks at what was asked,
only at what was allocated.  Source of the matching rules: KEP-4381 and `resourceclaim.ConfigForResult`: configuration for `req`
applies to `req` and to every `req/sub`, an empty list of requests to all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hami_dra.api.k8s import AllocationConfig, AllocationResult, ResourceClaim
from hami_dra.api.names import CAPACITY_CORES, CAPACITY_MEMORY, DRIVER, POD_CLAIM_ANNOTATION
from hami_dra.api.quantity import parse_quantity
from hami_dra.core.errors import ClaimChanged, ClaimNotAllocated
from hami_dra.core.ids import ClaimUid, DeviceName, PodUid, PoolName, RequestName, ShareId, ShareKey

__all__ = ["Allocation", "AppliedConfig", "Result", "read_allocation"]

_DNS_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedConfig:
    """Opaque parameters and where they came from: the index in the allocation's list tells users which entry is meant."""

    source: Literal["FromClass", "FromClaim"]
    index: int
    parameters: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One allocated device of this driver."""

    request: RequestName
    pool: PoolName
    device: DeviceName
    share_id: ShareId | None
    key: ShareKey
    """Name of the share's directory; unique in its claim."""
    admin_access: bool
    tolerated: frozenset[str]
    """Keys of taints that evict and with which the device is wanted all the same; the empty key stands for all of them."""
    memory_bytes: int | None
    """What the scheduler charged; None where the device was allocated as a whole."""
    cores_percent: int | None
    configs: tuple[AppliedConfig, ...]
    """In order of precedence: later ones win."""

    @property
    def base_request(self) -> str:
        """The name that a pod's containers refer to: `req` of `req/sub`."""
        return self.request.partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """What a claim was given of this driver."""

    namespace: str
    name: str
    uid: ClaimUid
    results: tuple[Result, ...]
    pods: tuple[PodUid, ...] = ()
    """The pods that it is reserved for."""
    pod_claim: str = ""
    """Made from a template: what the pod calls it."""


def read_allocation(claim: ResourceClaim, *, driver: str = DRIVER) -> Allocation:
    """The part of the claim's allocation that is this driver's.

    Raises:
        ClaimNotAllocated: no allocation, or nothing of this driver in it.
        ClaimChanged: the object cannot be the claim that somebody asked for (no name, no UID), or a quantity is unreadable.
    """
    metadata = claim["metadata"]
    where = f"claim {metadata.get('namespace', '?')}/{metadata.get('name', '?')}"
    devices = claim.get("status", {}).get("allocation", {}).get("devices", {})
    configs = [
        entry for entry in enumerate(devices.get("config", ())) if entry[1].get("opaque", {}).get("driver") == driver
    ]
    ours = [result for result in devices.get("results", ()) if result["driver"] == driver]
    keys = _distinct_keys(ours)
    results = tuple(_result(where, result, key, configs) for result, key in zip(ours, keys, strict=True))
    if not results:
        raise ClaimNotAllocated(f"{where}: has no device of driver {driver} allocated")
    if not metadata.get("uid"):
        raise ClaimChanged(f"{where}: has no UID")
    return Allocation(
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
        uid=ClaimUid(metadata["uid"]),
        results=results,
        pods=tuple(
            PodUid(user["uid"])
            for user in claim.get("status", {}).get("reservedFor", [])
            if user.get("resource") == "pods"
        ),
        pod_claim=_pod_claim(metadata.get("annotations", {})),
    )


def _pod_claim(annotations: Mapping[str, str]) -> str:
    """As the controller of claims wrote it; it becomes part of a path, so that anything else written there says nothing."""
    name = annotations.get(POD_CLAIM_ANNOTATION, "")
    return name if _DNS_LABEL.fullmatch(name) else ""


def _distinct_keys(results: list[AllocationResult]) -> list[ShareKey]:
    """`<device>-<shareID>`, or `<device>` without a shareID; numbered where admin access gives a claim a device twice."""
    keys: list[ShareKey] = []
    for result in results:
        share_id = result.get("shareID")
        key = f"{result['device']}-{share_id}" if share_id else result["device"]
        keys.append(ShareKey(f"{key}-{len(keys)}" if key in keys else key))
    return keys


def _result(where: str, result: AllocationResult, key: ShareKey, configs: list[tuple[int, AllocationConfig]]) -> Result:
    consumed = result.get("consumedCapacity", {})
    share_id = result.get("shareID")
    request = RequestName(result["request"])
    # FromClass first, then FromClaim; the order within a source is kept (sorted is stable).
    applied = sorted(
        (entry for entry in configs if _applies(entry[1].get("requests", []), request)),
        key=lambda entry: entry[1]["source"] != "FromClass",
    )
    return Result(
        request=request,
        pool=PoolName(result["pool"]),
        device=DeviceName(result["device"]),
        share_id=ShareId(share_id) if share_id else None,
        key=key,
        admin_access=result.get("adminAccess", False),
        tolerated=frozenset(
            toleration.get("key", "")
            for toleration in result.get("tolerations", ())
            if toleration.get("effect") in {None, "", "NoExecute"}
        ),
        memory_bytes=_quantity(where, consumed, CAPACITY_MEMORY),
        cores_percent=_quantity(where, consumed, CAPACITY_CORES),
        configs=tuple(
            AppliedConfig(source=config["source"], index=index, parameters=config["opaque"]["parameters"])
            for index, config in applied
        ),
    )


def _applies(requests: list[str], request: RequestName) -> bool:
    return not requests or request in requests or request.partition("/")[0] in requests


def _quantity(where: str, consumed: Mapping[str, str], name: str) -> int | None:
    if name not in consumed:
        return None
    try:
        return parse_quantity(str(consumed[name]))
    except ValueError as error:
        raise ClaimChanged(f"{where}: consumedCapacity {name}: {error}") from error
