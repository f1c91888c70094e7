"""What is exported of shares and cards, and what a tenant cannot make of it."""

import struct

import pytest
from prometheus_client import CollectorRegistry
from unit.node.test_watchdog import GIB, Bench, bench

from hami_dra._gen import abi
from hami_dra.core.devices import Offers
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.core.inventory import fixed_share_name
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings
from hami_dra.node.share_metrics import ShareCollector
from hami_dra.testing.gpus import A100_MEMORY, allocated_claim, gpu, share_result

__all__ = ["bench"]


class Usage:
    """Writes what a tenant may write."""

    def __init__(self, bench: Bench, share: tuple[ClaimUid, ShareKey]) -> None:
        self.path = bench.rig.claims_dir / share[0] / share[1] / "usage"

    def write(self, **fields: int) -> None:
        """A page with these fields of its header, and one process."""
        page = bytearray(abi.USAGE_SIZE)
        page[: len(abi.USAGE_MAGIC)] = abi.USAGE_MAGIC.encode()
        struct.pack_into("<I", page, abi.USAGE_ABI_VERSION_OFFSET, abi.ABI_VERSION)
        struct.pack_into("<I", page, abi.USAGE_HEADER_SIZE + abi.USAGE_SLOT_STATE_OFFSET, 1)
        for name, value in fields.items():
            struct.pack_into("<Q", page, getattr(abi, f"USAGE_{name.upper()}_OFFSET"), value)
        self.path.write_bytes(page)


def test_metrics_tell_what_a_share_may_and_does(bench: Bench) -> None:
    """From the moment of prepare; what its guard has not said yet is not there."""
    share = bench.prepare("a", cores=30)
    assert bench.metric("hami_dra_share_memory_bytes") == 8 * GIB
    assert bench.metric("hami_dra_share_cores_percent") == 30
    assert bench.metric("hami_dra_share_memory_used_bytes") is None
    Usage(bench, share).write(
        used_bytes=3 * GIB, peak_bytes=4 * GIB, gpu_time_ns=7_500_000_000, throttled_ns=500_000_000, refused_total=2
    )
    assert bench.metric("hami_dra_share_memory_used_bytes") == 3 * GIB
    assert bench.metric("hami_dra_share_memory_peak_bytes") == 4 * GIB
    assert bench.metric("hami_dra_share_processes") == 1
    assert bench.metric("hami_dra_share_gpu_seconds_total") == 7.5
    assert bench.metric("hami_dra_share_throttled_seconds_total") == 0.5
    assert bench.metric("hami_dra_share_memory_refused_total") == 2
    card = {"device": gpu().name}
    assert bench.metric("hami_dra_device_memory_bytes", **card) == A100_MEMORY
    assert bench.metric("hami_dra_device_memory_allocated_bytes", **card) == 8 * GIB
    assert bench.metric("hami_dra_device_memory_used_bytes", **card) == 3 * GIB
    assert bench.metric("hami_dra_device_cores_allocated_percent", **card) == 30


def test_a_fixed_share_is_promised_the_cores_of_its_part(bench: Bench) -> None:
    """No request says them: they are the part's, or the limit of the claim's configuration."""
    result = share_result(share_id="") | {"device": fixed_share_name(gpu().name, 0)}
    bench.rig.offers = Offers(settings=NodeSettings(default=CardSettings(mode=CardMode.FIXED_SHARES, fixed_shares=4)))
    bench.rig.prepare(bench.rig.claims.add(allocated_claim("a", result)))
    (cores,) = (
        sample.value
        for family in bench.registry.collect()
        for sample in family.samples
        if sample.name == "hami_dra_share_cores_percent"
    )
    assert cores == 25
    assert bench.metric("hami_dra_device_cores_allocated_percent", device=gpu().name) == 25


@pytest.mark.parametrize("value", [2**64 - 1, 2**63, 10**19])
def test_a_tenant_cannot_claim_more_than_can_be(bench: Bench, value: int) -> None:
    """Neither memory beyond the card nor centuries of GPU time; a file that is cut short says nothing."""
    share = bench.prepare("a")
    usage = Usage(bench, share)
    usage.write(used_bytes=value, peak_bytes=value, gpu_time_ns=value, throttled_ns=value)
    assert bench.metric("hami_dra_share_memory_used_bytes") == A100_MEMORY
    assert bench.metric("hami_dra_device_memory_used_bytes", device=gpu().name) == A100_MEMORY
    assert bench.metric("hami_dra_share_gpu_seconds_total") == 1e9
    usage.path.write_bytes(b"HAMI")
    assert bench.metric("hami_dra_share_memory_used_bytes") is None


def test_a_claim_of_several_pods_names_none_of_them(bench: Bench) -> None:
    """A share is one series, whoever uses it."""
    uid, _ = bench.prepare("a")
    both = allocated_claim("a", share_result(share_id="a-share"))
    both["status"]["reservedFor"] = [{"resource": "pods", "name": name, "uid": name} for name in ("one", "two")]
    bench.consumers.note(both)
    assert bench.consumers.names(uid) == ("one", "two")
    assert bench.metric("hami_dra_share_memory_bytes", pod="") == 8 * GIB


def test_the_container_is_named_where_there_is_one(bench: Bench) -> None:
    """And is empty where there are several, or nobody can tell."""
    bench.prepare("a")
    bench.container = "trainer"
    assert bench.metric("hami_dra_share_memory_bytes", container="trainer") == 8 * GIB
    bench.container = ""
    assert bench.metric("hami_dra_share_memory_bytes", container="") == 8 * GIB


def test_what_kubelet_unprepares_is_forgotten(bench: Bench) -> None:
    """A failed claim was never known."""
    uid, _ = bench.prepare("a")
    reference = bench.rig.claims.add(allocated_claim("a"))
    bench.consumers.failed(reference, DriverError("no"))
    assert bench.consumers.names(uid) == ("a-pod",)
    bench.consumers.unprepared(reference)
    assert bench.consumers.names(uid) == ()


def test_rows_of_another_boot_are_nothing(bench: Bench) -> None:
    """And a ledger that cannot be read leaves the cards alone."""
    bench.prepare("a")

    class Broken:
        def entries(self) -> list[object]:
            raise NodeStateError("the disk is gone")

    for ledger in (Broken(), bench.rig.ledger):
        registry = CollectorRegistry()
        registry.register(
            ShareCollector(
                ledger=ledger,  # type: ignore[arg-type] # it has no entries to type
                boot="another boot",
                usage=bench.live.usage,
                inventory=lambda: bench.rig.discovery.latest,
                labels=bench.labels,
            )
        )
        assert registry.get_sample_value("hami_dra_device_shares", {"device": gpu().name}) == 0
