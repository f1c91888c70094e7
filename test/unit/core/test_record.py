"""What the ledger keeps: other releases read it, so that its words are fixed."""

import json
from dataclasses import replace
from typing import Any

from hami_dra.api.opaque import Isolation, Priority, Qos
from hami_dra.core.devices import Size
from hami_dra.core.ids import ClaimUid, DeviceName, GpuUuid, PodUid, PoolName, RequestName, ShareId, ShareKey
from hami_dra.core.inventory import Partition
from hami_dra.core.plan import ClaimPlan, PlannedPartition, PlannedShare
from hami_dra.core.record import from_json, to_json
from hami_dra.core.share import ShareSpec

PLAN = ClaimPlan(
    namespace="ml",
    name="train",
    uid=ClaimUid("claim-uid"),
    pods=(PodUid("pod-uid"),),
    shares=(
        PlannedShare(
            spec=ShareSpec(
                request=RequestName("gpu/small"),
                pool=PoolName("node-1/gpu"),
                device=DeviceName("gpu-0000-17-00-0-mig-1g-10gb-6"),
                share_id=ShareId("share-id"),
                key=ShareKey("share-key"),
                admin_access=True,
                memory_bytes=1,
                cores_percent=2,
                isolation=Isolation.GUARD,
                qos=Qos.BURST_SHARE,
                priority=Priority.HIGH,
                oversubscription_bytes=3,
                limit_memory_bytes=4,
                limit_cores_percent=5,
            ),
            gpu_uuid=GpuUuid("GPU-1"),
            device_memory_bytes=6 << 20,
            memory_region="drm/0000:17:00.0/vram",
            offered=Size(memory_bytes=7, cores_percent=8),
            partition=PlannedPartition(
                place=Partition(gpu=DeviceName("gpu-0000-17-00-0"), profile="1g.10gb", start=6),
                size=9,
                ours=False,
                uuid=GpuUuid("MIG-1"),
            ),
        ),
    ),
)
"""Nothing in it is what it would be by default."""
SHARE = {
    "request": "gpu/small",
    "pool": "node-1/gpu",
    "device": "gpu-0000-17-00-0-mig-1g-10gb-6",
    "shareID": "share-id",
    "key": "share-key",
    "adminAccess": True,
    "memoryBytes": 1,
    "cores": 2,
    "isolation": "Guard",
    "qos": "BurstShare",
    "priority": "High",
    "oversubscriptionBytes": 3,
    "limitMemoryBytes": 4,
    "limitCores": 5,
    "offeredMemoryBytes": 7,
    "offeredCores": 8,
    "gpuUUID": "GPU-1",
    "deviceMemoryBytes": 6 << 20,
    "memoryRegion": "drm/0000:17:00.0/vram",
    "partition": {
        "gpu": "gpu-0000-17-00-0",
        "profile": "1g.10gb",
        "start": 6,
        "size": 9,
        "ours": False,
        "uuid": "MIG-1",
    },
}
RECORD = {"namespace": "ml", "name": "train", "uid": "claim-uid", "pods": ["pod-uid"], "shares": [SHARE]}


def test_a_record_is_written_in_these_words() -> None:
    """A release that changes one of them has to read the old one too."""
    found = json.loads(to_json(PLAN))
    (share,) = found.pop("shares")
    assert {name: share[name] for name in SHARE} == SHARE
    assert {name: found[name] for name in found.keys() & RECORD.keys()} == {
        n: RECORD[n] for n in RECORD if n != "shares"
    }
    assert "\n" not in to_json(PLAN)


def test_a_record_of_these_words_is_read() -> None:
    """Nothing of it is lost."""
    assert from_json(json.dumps(RECORD)) == PLAN


def test_a_record_of_an_older_release_means_what_it_meant() -> None:
    """Shares of whole cards, offered as they are, held to nothing that came later."""
    later = ("oversubscriptionBytes", "limitMemoryBytes", "limitCores", "offeredMemoryBytes", "offeredCores")
    older: dict[str, Any] = {
        name: value for name, value in SHARE.items() if name not in {*later, "memoryRegion", "partition"}
    }
    older["shareID"] = None
    record = {name: value for name, value in RECORD.items() if name != "pods"} | {"shares": [older]}
    found = from_json(json.dumps(record))
    (share,) = PLAN.shares
    spec = replace(
        share.spec, share_id=None, oversubscription_bytes=0, limit_memory_bytes=None, limit_cores_percent=None
    )
    offered = Size(memory_bytes=6 << 20, cores_percent=100)
    old = replace(share, spec=spec, memory_region=None, offered=offered, partition=None)
    assert found == replace(PLAN, pods=(), shares=(old,))
