"""A ClaimPlan as JSON and back: what the ledger keeps.

Our own file, so decoding is lenient: unknown fields of a newer version are ignored, and a missing one falls back to what
older versions meant.  Invariant: `from_json(to_json(plan)) == plan`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from hami_dra.api.k8s import JsonObject
from hami_dra.api.opaque import Interval, Isolation, Priority, Qos
from hami_dra.core.devices import Size
from hami_dra.core.errors import LedgerCorrupt
from hami_dra.core.ids import ClaimUid, DeviceName, GpuUuid, PodUid, PoolName, RequestName, ShareId, ShareKey
from hami_dra.core.inventory import Partition, published_memory
from hami_dra.core.plan import ClaimPlan, PlannedPartition, PlannedShare
from hami_dra.core.share import ShareSpec

__all__ = ["Entry", "Phase", "from_json", "held_devices", "to_json"]


class Phase(StrEnum):
    """How far the preparation of a claim came."""

    STARTED = "Started"
    """Charged to its devices; its files may be there in part, and no container uses them yet."""
    COMPLETED = "Completed"
    """Answered to kubelet, or about to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the ledger says about one claim."""

    phase: Phase
    boot: str
    """Boot of the machine in which it was written: nothing of another boot is prepared any more."""
    plan: ClaimPlan


def held_devices(entries: Iterable[Entry], *, boot: str) -> frozenset[DeviceName]:
    """The devices of claims that were prepared in this boot, or are about to be."""
    return frozenset(share.spec.device for entry in entries if entry.boot == boot for share in entry.plan.shares)


def to_json(plan: ClaimPlan) -> str:
    """One line of JSON."""
    return json.dumps(
        {
            "namespace": plan.namespace,
            "name": plan.name,
            "uid": plan.uid,
            "pods": plan.pods,
            "podClaim": plan.pod_claim,
            "shares": [
                {
                    "request": share.spec.request,
                    "pool": share.spec.pool,
                    "device": share.spec.device,
                    "shareID": share.spec.share_id,
                    "key": share.spec.key,
                    "adminAccess": share.spec.admin_access,
                    "memoryBytes": share.spec.memory_bytes,
                    "cores": share.spec.cores_percent,
                    "isolation": share.spec.isolation,
                    "interval": share.spec.interval,
                    "qos": share.spec.qos,
                    "priority": share.spec.priority,
                    "oversubscriptionBytes": share.spec.oversubscription_bytes,
                    "limitMemoryBytes": share.spec.limit_memory_bytes,
                    "limitCores": share.spec.limit_cores_percent,
                    "deviceMetadata": share.spec.device_metadata,
                    "offeredMemoryBytes": share.offered.memory_bytes,
                    "offeredCores": share.offered.cores_percent,
                    "gpuUUID": share.gpu_uuid,
                    "deviceMemoryBytes": share.device_memory_bytes,
                    "memoryRegion": share.memory_region,
                    "partition": _partition_to_json(share.partition),
                }
                for share in plan.shares
            ],
        },
        separators=(",", ":"),
    )


def from_json(text: str) -> ClaimPlan:
    """The plan that `to_json` wrote.

    Raises:
        LedgerCorrupt: not such a record.
    """
    try:
        record = json.loads(text)
        return ClaimPlan(
            namespace=record["namespace"],
            name=record["name"],
            uid=ClaimUid(record["uid"]),
            pods=tuple(PodUid(pod) for pod in record.get("pods", ())),
            pod_claim=record.get("podClaim", ""),
            shares=tuple(
                PlannedShare(
                    spec=ShareSpec(
                        request=RequestName(share["request"]),
                        pool=PoolName(share["pool"]),
                        device=DeviceName(share["device"]),
                        share_id=ShareId(share["shareID"]) if share["shareID"] else None,
                        key=ShareKey(share["key"]),
                        admin_access=share["adminAccess"],
                        memory_bytes=share["memoryBytes"],
                        cores_percent=share["cores"],
                        isolation=Isolation(share["isolation"]),
                        interval=Interval(share["interval"]) if share.get("interval") else None,
                        qos=Qos(share["qos"]),
                        priority=Priority(share["priority"]),
                        oversubscription_bytes=share.get("oversubscriptionBytes", 0),
                        limit_memory_bytes=share.get("limitMemoryBytes"),
                        limit_cores_percent=share.get("limitCores"),
                        device_metadata=share.get("deviceMetadata", False),
                    ),
                    gpu_uuid=GpuUuid(share["gpuUUID"]),
                    device_memory_bytes=share["deviceMemoryBytes"],
                    memory_region=share.get("memoryRegion"),
                    offered=Size(
                        memory_bytes=share.get("offeredMemoryBytes", published_memory(share["deviceMemoryBytes"])),
                        cores_percent=share.get("offeredCores", 100),
                    ),
                    partition=_partition_from_json(share.get("partition")),
                )
                for share in record["shares"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerCorrupt(f"a record of the ledger cannot be read: {error!r} in {text[:120]}") from error


def _partition_to_json(partition: PlannedPartition | None) -> JsonObject | None:
    if partition is None:
        return None
    place = partition.place
    return {
        "gpu": place.gpu,
        "profile": place.profile,
        "start": place.start,
        "size": partition.size,
        "ours": partition.ours,
        "uuid": partition.uuid,
    }


def _partition_from_json(record: JsonObject | None) -> PlannedPartition | None:
    if record is None:
        return None
    place = Partition(gpu=DeviceName(record["gpu"]), profile=record["profile"], start=record["start"])
    uuid = GpuUuid(record["uuid"]) if record["uuid"] else None
    return PlannedPartition(place=place, size=record["size"], ours=record["ours"], uuid=uuid)
