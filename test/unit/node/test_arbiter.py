"""The arbiter on a node: files, figures and clocks as they come, and everything that can go wrong with them."""

import struct
import threading
from collections.abc import Iterator, Mapping

import pytest
from node_rig import Rig
from prometheus_client import CollectorRegistry

from hami_dra._gen import abi
from hami_dra._lib.threads import Group
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.figures import Figures
from hami_dra.core.ids import ClaimUid, GpuUuid, ShareKey
from hami_dra.core.limits import Limits, decode
from hami_dra.core.record import Entry
from hami_dra.host.live_shares import LiveShares
from hami_dra.node.arbiter import Arbiter
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import Attribution
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, gpu, share_result

MILLISECOND = 1_000_000


class Driver:
    """Figures by pid; pid 1 is claim a's, 2 is claim b's."""

    def __init__(self) -> None:
        self.figures_now: Figures | None = None
        self.error: DriverError | None = None
        self.asked: list[int] = []

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """Whatever the test says."""
        assert uuid == gpu().uuid
        self.asked.append(since_us)
        if self.error is not None:
            raise self.error
        return self.figures_now

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> Mapping[int, int] | None:
        """Nobody asks for it here."""
        raise AssertionError(partition or uuid)


class Bench:
    """A node with prepared shares, a clock, a driver, and an arbiter that works when it is told."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = FakeClock()
        self.driver = Driver()
        self.registry = CollectorRegistry()
        self.metrics = NodeMetrics(self.registry)
        self.files = LiveShares(rig.claims_dir, lock=rig.directory / "limits.lock")
        self.keys: dict[str, ShareKey] = {}
        self.arbiter = self.make()

    def make(self, *, group: Group | None = None, attributed: bool = True) -> Arbiter:
        """An arbiter as a new process makes it."""
        attribution = Attribution(meter=self.driver, owner=self.owner)
        return Arbiter(
            shares=self.files,
            ledger=self.rig.ledger,
            boot=self.rig.boot,
            attribution=attribution if attributed else None,
            metrics=self.metrics,
            group=group or self.rig.group,
            clock=self.clock,
        )

    def owner(self, pid: int) -> set[tuple[ClaimUid, ShareKey]]:
        """Whose process that is."""
        name = {1: "a", 2: "b"}.get(pid)
        return {(ClaimUid(f"{name}-uid"), self.keys[name])} if name in self.keys else set()

    def prepare(self, name: str, *, cores: int, config: list[dict[str, object]] | None = None) -> None:
        """A claim with one share of the card."""
        result = share_result(cores=cores, share_id=f"{name}-share", memory_gib=8)
        self.rig.prepare(self.rig.claims.add(allocated_claim(name, result, config=config)))
        self.keys[name] = ShareKey(f"{result['device']}-{result['shareID']}")

    def limits(self, name: str) -> Limits:
        """What the share's page says."""
        return decode((self.rig.claims_dir / f"{name}-uid" / self.keys[name] / "limits").read_bytes())

    def use(self, name: str, *, wanted_at: int = 0, gpu_ns: int = 0, throttled_ns: int = 0, bucket_ns: int = 0) -> None:
        """What the share's guard writes."""
        path = self.rig.claims_dir / f"{name}-uid" / self.keys[name] / "usage"
        page = bytearray(path.read_bytes())
        page[: len(abi.USAGE_MAGIC)] = abi.USAGE_MAGIC.encode()
        struct.pack_into("<I", page, abi.USAGE_ABI_VERSION_OFFSET, abi.ABI_VERSION)
        struct.pack_into("<I", page, abi.USAGE_HEADER_SIZE + abi.USAGE_SLOT_STATE_OFFSET, 1)
        struct.pack_into("<Q", page, abi.USAGE_HEADER_SIZE + abi.USAGE_SLOT_WANTED_AT_NS_OFFSET, wanted_at)
        struct.pack_into("<Q", page, abi.USAGE_GPU_TIME_NS_OFFSET, gpu_ns)
        struct.pack_into("<Q", page, abi.USAGE_THROTTLED_NS_OFFSET, throttled_ns)
        struct.pack_into("<q", page, abi.USAGE_BUCKET_NS_OFFSET, bucket_ns)
        path.write_bytes(page)

    def rounds(self, count: int, *, busy: str = "", charged_ms: int = 10) -> None:
        """So many rounds in which the shares named in `busy` compute and are held back."""
        for _ in range(count):
            self.clock.advance(0.1)
            at = round(self.clock.monotonic() * 1e9)
            for name in busy:
                spent = at // (100 * MILLISECOND) * charged_ms * MILLISECOND
                self.use(name, wanted_at=at, gpu_ns=spent, throttled_ns=at, bucket_ns=-1)
            self.arbiter.round()

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample of what is exported."""
        return self.registry.get_sample_value(name, labels)


def config(**fields: object) -> list[dict[str, object]]:
    """A claim's GpuConfig."""
    parameters = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig"} | fields
    return [{"source": "FromClaim", "opaque": {"driver": "gpu.hami.io", "parameters": parameters}}]


@pytest.fixture
def bench(rig: Rig) -> Iterator[Bench]:
    """A node with one A100."""
    bench = Bench(rig)
    yield bench
    rig.group.stop()


def test_a_burst_share_gets_what_is_idle(bench: Bench) -> None:
    """Alone it has the card; next to a fixed share that computes, what that leaves."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    bench.prepare("b", cores=50)
    bench.rounds(3, busy="a")
    assert bench.limits("a").granted_permille == 1000
    bench.rounds(3, busy="ab")
    assert bench.limits("a").granted_permille == 500
    assert bench.limits("b").granted_permille in {0, 500}
    labels = {"namespace": "ml", "claim": "a", "share": bench.keys["a"]}
    assert bench.metric("hami_dra_share_compute_granted_ratio", **labels) == 0.5
    labels = {"namespace": "ml", "claim": "b", "share": bench.keys["b"]}
    assert bench.metric("hami_dra_share_compute_granted_ratio", **labels) == 0.5


def test_the_drivers_figures_correct_a_fixed_share(bench: Bench) -> None:
    """Its guard charges 30 percent, the driver sees 15: it may use more."""
    bench.prepare("a", cores=30)
    for number in range(1, 40):
        bench.driver.figures_now = Figures(at_us=number * 100_000, periods=1, busy={1: 0.15})
        bench.rounds(1, busy="a", charged_ms=30)
    assert bench.limits("a").granted_permille > 500
    assert bench.driver.asked[:2] == [0, 200_000]


def test_without_attribution_nobody_is_asked(bench: Bench) -> None:
    """And fixed shares keep their cores."""
    bench.prepare("a", cores=30)
    bench.arbiter = bench.make(attributed=False)
    bench.driver.figures_now = Figures(at_us=1, periods=1, busy={1: 0.15})
    bench.rounds(20, busy="a")
    assert (bench.driver.asked, bench.limits("a").granted_permille) == ([], 0)
    assert bench.arbiter.round() == 1.0


def test_a_silent_driver_has_seen_nothing(bench: Bench) -> None:
    """No new samples for several periods mean that nobody computed; before that they mean that it is too early."""
    bench.prepare("a", cores=30)
    bench.rounds(3, busy="a", charged_ms=0)
    bench.driver.figures_now = Figures(at_us=1_000_000, periods=1, busy={1: 0.3})
    bench.rounds(1, busy="a", charged_ms=0)
    bench.driver.figures_now = None
    (card,) = bench.arbiter._cards.values()
    for figures, busy in (
        (bench.driver.figures_now, 0.0),
        (Figures(at_us=1_100_000, periods=1, busy={1: 0.3}), 0.3),
        (None, 0.3),
    ):
        bench.driver.figures_now = figures
        bench.rounds(1, busy="a", charged_ms=0)
        assert next(iter(card.state.shares.values())).busy == busy
    bench.rounds(15, busy="a", charged_ms=0)
    assert next(iter(card.state.shares.values())).busy == 0.0


def test_a_driver_that_fails_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Ten times a second would drown everything else; the metric counts them all."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    bench.driver.error = DriverError("cannot read the processes of GPU-0: GPU is lost")
    bench.rounds(5, busy="a")
    assert bench.limits("a").granted_permille == 1000
    assert sum("GPU is lost" in record.message for record in caplog.records) == 1
    failures = bench.metric("hami_dra_arbiter_failures_total", reason=DriverError.reason)
    assert failures is not None
    assert failures >= 3


def test_equals_without_cores_need_nothing(bench: Bench) -> None:
    """Best effort alone on its card is not even looked at, and the next round may take its time."""
    bench.prepare("a", cores=0)
    assert bench.arbiter.round() == 1.0
    bench.rounds(3, busy="a")
    assert (bench.limits("a").granted_permille, bench.limits("a").generation) == (0, 1)
    bench.prepare("b", cores=20)
    assert bench.arbiter.round() == 0.25
    bench.rounds(2, busy="ab")
    assert bench.arbiter.round() == 0.1
    assert bench.limits("a").granted_permille == 800


def test_a_word_is_taken_back_when_its_reason_went(bench: Bench) -> None:
    """The best-effort share is free again once the share with cores is gone."""
    bench.prepare("a", cores=0)
    bench.prepare("b", cores=20)
    bench.rounds(3, busy="ab")
    assert bench.limits("a").granted_permille == 800
    bench.rig.unprepare(bench.rig.claims.add(allocated_claim("b")))
    labels = {"namespace": "ml", "claim": "b", "share": bench.keys["b"]}
    assert bench.metric("hami_dra_share_compute_granted_ratio", **labels) is not None
    bench.rounds(1, busy="a")
    assert bench.limits("a").granted_permille == 0
    assert bench.metric("hami_dra_share_compute_granted_ratio", **labels) is None


def test_a_share_that_vanishes_in_between_is_no_error(bench: Bench) -> None:
    """Files may go between the look at the ledger and the write."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    bench.arbiter.round()
    for name in ("limits", "usage"):
        (bench.rig.claims_dir / "a-uid" / bench.keys["a"] / name).unlink()
    for _ in range(3):
        bench.clock.advance(0.1)
        bench.arbiter.round()
    assert bench.metric("hami_dra_arbiter_failures_total", reason=NodeStateError.reason) is None


def test_a_share_whose_files_come_late_gets_its_word(bench: Bench) -> None:
    """The ledger knows a claim before its files are made."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    path = bench.rig.claims_dir / "a-uid" / bench.keys["a"] / "limits"
    content = path.read_bytes()
    path.unlink()
    bench.rounds(2)
    path.write_bytes(content)
    bench.rounds(1)
    assert bench.limits("a").granted_permille == 1000


def test_a_claim_that_is_prepared_again_gets_its_word_again(bench: Bench) -> None:
    """Unprepare and Prepare may come between two rounds: same claim, same share, fresh files."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    bench.rounds(2, busy="a")
    bench.rig.unprepare(bench.rig.claims.add(allocated_claim("a")))
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    assert bench.limits("a").granted_permille == 0
    bench.rounds(1)
    assert bench.limits("a").granted_permille == 1000


def test_a_lock_that_cannot_be_opened_is_tried_again(bench: Bench) -> None:
    """The disk may be full for a while: that is no reason to stop serving kubelet."""
    lock = bench.rig.directory / "limits.lock"
    lock.mkdir()
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    with Group("other", clock=FakeClock(jumps=True)) as group:
        group.spawn("arbiter", bench.make(group=group).run)
        eventually(lambda: bench.metric("hami_dra_arbiter_failures_total", reason=NodeStateError.reason))
        lock.rmdir()
        eventually(lambda: bench.limits("a").granted_permille == 1000)


def test_whole_cards_and_other_boots_are_left_alone(bench: Bench) -> None:
    """Shares without a guard have no limits to change, and those of another boot no programs."""
    bench.rig.prepare(bench.rig.claims.add(allocated_claim("whole", share_result(share_id=""))))
    assert bench.arbiter.round() == 1.0
    assert bench.arbiter._cards == {}
    bench.rig.unprepare(bench.rig.claims.add(allocated_claim("whole", share_result(share_id=""))))
    bench.prepare("a", cores=30)
    bench.rig.boot = "boot-2"
    assert bench.make().round() == 1.0


def test_a_start_repairs_a_page_that_was_left_half_written(bench: Bench) -> None:
    """The plugin that wrote it was killed; its grant goes too, until the new one decides."""
    bench.prepare("a", cores=30)
    path = bench.rig.claims_dir / "a-uid" / bench.keys["a"] / "limits"
    page = bytearray(path.read_bytes())
    struct.pack_into("<I", page, abi.LIMITS_SEQUENCE_OFFSET, 7)
    struct.pack_into("<I", page, abi.LIMITS_GRANTED_PERMILLE_OFFSET, 999)
    path.write_bytes(page)
    bench.make().round()
    assert path.read_bytes()[abi.LIMITS_SEQUENCE_OFFSET] == 8
    assert bench.limits("a").granted_permille == 0


def test_a_page_that_cannot_be_written_is_tried_again(bench: Bench) -> None:
    """The failure is counted, and the grant comes when the page can be written."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    path = bench.rig.claims_dir / "a-uid" / bench.keys["a"] / "limits"
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    bench.rounds(3, busy="a")
    assert (bench.metric("hami_dra_arbiter_failures_total", reason=NodeStateError.reason) or 0) >= 3
    path.rmdir()
    path.write_bytes(content)
    bench.rounds(1, busy="a")
    assert bench.limits("a").granted_permille == 1000


def test_a_ledger_that_cannot_be_read_changes_nothing(bench: Bench) -> None:
    """What was known stays known."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    bench.rounds(2, busy="a")

    class Broken:
        def entries(self) -> list[Entry]:
            raise NodeStateError("cannot read the ledger")

    bench.arbiter._ledger = Broken()  # type: ignore[assignment] # all of it that is asked for
    bench.clock.advance(20.0)
    bench.rounds(1, busy="a")
    assert bench.metric("hami_dra_arbiter_failures_total", reason=NodeStateError.reason) == 1
    assert bench.limits("a").granted_permille == 1000


def test_nonsense_in_a_usage_file_is_bounded(bench: Bench) -> None:
    """A tenant that claims everything gets what a hungry tenant gets, and its neighbour keeps its cores."""
    bench.prepare("a", cores=0)
    bench.prepare("b", cores=60)
    for byte in (b"\xff", b"\x01", b"\x00"):
        bench.rounds(1, busy="b")
        path = bench.rig.claims_dir / "a-uid" / bench.keys["a"] / "usage"
        path.write_bytes(abi.USAGE_MAGIC.encode() + struct.pack("<I", abi.ABI_VERSION) + byte * (abi.USAGE_SIZE - 12))
    bench.rounds(2, busy="b")
    assert 0 < bench.limits("a").granted_permille <= 400
    assert bench.limits("b").granted_permille == 0


def test_one_process_of_a_node_arbitrates(bench: Bench) -> None:
    """A second plugin waits until the first is gone, and then goes on."""
    bench.prepare("a", cores=30, config=config(qos="BurstShare"))
    other = LiveShares(bench.rig.claims_dir, lock=bench.rig.directory / "limits.lock")
    with Group("second", clock=FakeClock(jumps=True)) as group:
        arbiter = bench.make(group=group)
        with other.alone() as first:
            assert first
            thread = threading.Thread(target=arbiter.run)
            thread.start()
            assert bench.limits("a").granted_permille == 0
        eventually(lambda: bench.limits("a").granted_permille == 1000)
        group.stop()
        thread.join()
