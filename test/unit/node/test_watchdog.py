"""What the watchdog does about shares that the driver sees above their limits."""

import logging
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest
from node_rig import Rig
from prometheus_client import CollectorRegistry

from hami_dra._gen import abi
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import ObjectReference
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.figures import Figures
from hami_dra.core.ids import ClaimUid, GpuUuid, ShareKey
from hami_dra.core.settings import WatchdogPolicy, WatchdogSettings
from hami_dra.host.live_shares import LiveShares
from hami_dra.node.arbiter import Arbiter
from hami_dra.node.attributor import Attributor
from hami_dra.node.consumers import Consumers
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import Attribution
from hami_dra.node.share_labels import ShareLabels
from hami_dra.node.share_metrics import ShareCollector
from hami_dra.node.watchdog import Watchdog
from hami_dra.node.watchdog_metrics import WatchdogCollector
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, gpu, share_result

GIB = 1 << 30


class Driver:
    """Says what a test wants it to."""

    def __init__(self) -> None:
        self.held: dict[int, int] | None = {}
        self.parts: dict[str, dict[int, int]] = {}
        self.busy: dict[int, float] = {}
        self.at_us = 0
        self.broken = False

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> Mapping[int, int] | None:
        """By pid, of the first card or of a partition of it."""
        if self.broken:
            raise DriverError("cannot read the processes: GPU is lost")
        if uuid != gpu().uuid:
            raise DriverError(f"cannot read the processes of {uuid}: GPU is lost")
        if partition is None:
            return self.held
        if partition not in self.parts:
            raise DriverError(f"cannot read the processes of {partition}: Not Found")
        return self.parts[partition]

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """A sample of the whole time since the last one."""
        assert uuid == gpu().uuid
        assert since_us <= self.at_us
        self.at_us += 2_000_000
        return Figures(at_us=self.at_us, periods=2, busy=self.busy)


class Table:
    """Processes and their pods."""

    def __init__(self) -> None:
        self.pods: dict[int, str] = {}
        self.killed: list[int] = []
        self.forbidden = False

    def pod_uid(self, pid: int) -> str | None:
        """As the test says."""
        return self.pods.get(pid)

    def kill(self, pid: int, *, still: Callable[[int], bool]) -> bool:
        """Note it."""
        if self.forbidden:
            raise NodeStateError("not permitted")
        if not still(pid):
            return False
        self.killed.append(pid)
        return True


class Events:
    """Remembers Events."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self.messages: list[str] = []

    def emit(self, regarding: ObjectReference, *, event_type: str, reason: str, message: str) -> None:
        """Note it."""
        self.said.append((f"{regarding['kind']}/{regarding['name']}", event_type, reason))
        self.messages.append(message)


class Bench:
    """A node with one A100, shares of 8 GiB on it, and a watchdog."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.clock = FakeClock()
        self.driver, self.table, self.events = Driver(), Table(), Events()
        self.mounted: dict[int, set[tuple[ClaimUid, ShareKey]]] = {}
        self.consumers = Consumers(rig.claims, clock=self.clock)
        self.settings = WatchdogSettings(grace_s=10)
        self.attribution = Attribution(meter=self.driver, owner=lambda pid: self.mounted.get(pid, set()))
        attributor = Attributor(self.attribution, processes=self.table, consumers=self.consumers)
        self.watchdog = Watchdog(
            ledger=rig.ledger,
            boot=rig.boot,
            attributor=attributor,
            settings=lambda _uuid: self.settings,
            events=self.events,
            group=rig.group,
            clock=self.clock,
        )
        self.live = LiveShares(rig.claims_dir, lock=rig.directory / "limits.lock")
        self.container = "main"
        self.labels = ShareLabels(pods=self.consumers.names, container=lambda _uid, _key: self.container)
        self.registry = CollectorRegistry()
        self.registry.register(WatchdogCollector(self.watchdog, labels=self.labels))
        self.registry.register(
            ShareCollector(
                ledger=rig.ledger,
                boot=rig.boot,
                usage=self.live.usage,
                inventory=lambda: rig.discovery.latest,
                labels=self.labels,
            )
        )

    def prepare(self, name: str, *, cores: int = 30) -> tuple[ClaimUid, ShareKey]:
        """A claim with one share, which the pod `<name>-pod` uses."""
        result = share_result(cores=cores, share_id=f"{name}-share", memory_gib=8)
        prepared = self.rig.prepare(self.rig.claims.add(allocated_claim(name, result)))
        self.consumers.prepared(prepared)
        return ClaimUid(f"{name}-uid"), prepared.plan.shares[0].spec.key

    def rounds(self, seconds: float) -> None:
        """Look every two seconds for so long."""
        for _ in range(round(seconds / 2)):
            self.clock.advance(2.0)
            self.watchdog.round()

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample of what is exported; labels of a share are those of claim a."""
        share = {
            "namespace": "ml",
            "pod": "a-pod",
            "container": "main",
            "claim": "a",
            "request": "gpu",
            "device": gpu().name,
            "share": f"{gpu().name}-a-share",
        }
        return self.registry.get_sample_value(name, (share if "_share_" in name else {}) | labels)


@pytest.fixture
def bench(rig: Rig) -> Iterator[Bench]:
    """A node with one A100."""
    yield Bench(rig)
    rig.group.stop()


def test_a_process_that_hid_its_mounts_is_reported_by_its_cgroup(bench: Bench) -> None:
    """On the claim and on its pod, with the figure; once, until the share keeps to its limits again."""
    bench.prepare("a")
    bench.driver.held = {71: 12 * GIB}
    bench.table.pods = {71: "a-pod-uid"}
    bench.rounds(10)
    assert bench.events.said == []
    bench.rounds(30)
    assert bench.events.said == [
        ("ResourceClaim/a", "Warning", "ShareLimitExceeded"),
        ("Pod/a-pod", "Warning", "ShareLimitExceeded"),
    ]
    assert "holds 12Gi of 8Gi; it is reported, and nothing else is done" in bench.events.messages[0]
    assert bench.metric("hami_dra_share_driver_memory_bytes") == 12 * GIB
    assert bench.metric("hami_dra_share_above_limit", limit="memory") == 1
    assert bench.metric("hami_dra_share_above_limit", limit="cores") == 0
    assert bench.metric("hami_dra_watchdog_actions_total", policy="Report") == 1
    bench.driver.held = {}
    bench.rounds(20)
    assert bench.events.said[2:] == [
        ("ResourceClaim/a", "Normal", "ShareLimitKept"),
        ("Pod/a-pod", "Normal", "ShareLimitKept"),
    ]
    assert bench.table.killed == []


def test_compute_beyond_a_fixed_share_is_reported(bench: Bench) -> None:
    """As the driver saw it, averaged."""
    bench.prepare("a", cores=30)
    bench.driver.held = {71: GIB}
    bench.driver.busy = {71: 0.9, 99: 0.1}
    bench.table.pods = {71: "a-pod-uid"}
    bench.rounds(60)
    assert bench.metric("hami_dra_share_driver_busy_ratio") == pytest.approx(0.9, abs=0.01)
    assert "computes 57 percent of the card on average, of 30" in bench.events.messages[0]


def test_only_the_processes_of_the_offender_are_stopped(bench: Bench) -> None:
    """Those on the card, as long as the share is above."""
    bench.settings = replace(bench.settings, policy=WatchdogPolicy.STOP)
    bench.prepare("a")
    bench.prepare("b")
    bench.driver.held = {71: 12 * GIB, 72: GIB, 73: 20 * GIB}
    bench.table.pods = {71: "a-pod-uid", 72: "b-pod-uid", 73: "unknown"}
    bench.rounds(12)
    assert bench.table.killed == [71]
    assert bench.metric("hami_dra_device_unattributed_memory_bytes", device=gpu().name) == 20 * GIB
    assert "its processes on the card are stopped" in bench.events.messages[0]


def test_a_process_that_is_another_by_then_is_not_stopped(bench: Bench) -> None:
    """Its number was used again between the look and the kill."""
    bench.settings = replace(bench.settings, policy=WatchdogPolicy.STOP)
    bench.prepare("a")
    bench.driver.held = {71: 12 * GIB}
    answers = ["a-pod-uid"] * 7

    def changing(pid: int) -> str | None:
        assert pid == 71
        return answers.pop() if answers else None

    bench.table.pod_uid = changing  # type: ignore[method-assign] # a pod that changes in between
    bench.rounds(10)
    answers[:] = ["a-pod-uid"]
    bench.rounds(2)
    assert bench.table.killed == []


def test_what_it_may_not_do_is_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """And it goes on watching."""
    bench.settings = replace(bench.settings, policy=WatchdogPolicy.STOP)
    bench.table.forbidden = True
    bench.prepare("a")
    bench.driver.held, bench.table.pods = {71: 12 * GIB}, {71: "a-pod-uid"}
    bench.rounds(30)
    assert len([record for record in caplog.records if "not permitted" in record.message]) == 1


def test_a_throttled_share_gets_next_to_nothing_until_it_keeps_to_its_limits(bench: Bench) -> None:
    """The arbiter writes its page, and restores it."""
    bench.settings = replace(bench.settings, policy=WatchdogPolicy.THROTTLE)
    uid, key = bench.prepare("a")
    arbiter = Arbiter(
        shares=bench.live,
        ledger=bench.rig.ledger,
        boot=bench.rig.boot,
        attribution=None,
        metrics=NodeMetrics(CollectorRegistry()),
        group=bench.rig.group,
        throttled=bench.watchdog.throttled,
        clock=bench.clock,
    )

    def page() -> tuple[int, int]:
        arbiter.round()
        raw = (bench.rig.claims_dir / uid / key / "limits").read_bytes()
        return (
            struct.unpack_from("<Q", raw, abi.LIMITS_MEMORY_LIMIT_BYTES_OFFSET)[0],
            struct.unpack_from("<I", raw, abi.LIMITS_GRANTED_PERMILLE_OFFSET)[0],
        )

    before = page()
    assert before[0] == 8 * GIB
    bench.driver.held, bench.table.pods = {71: 12 * GIB}, {71: "a-pod-uid"}
    bench.rounds(12)
    assert page() == (1, 10)
    assert page() == (1, 10)
    bench.driver.held = {}
    bench.rounds(12)
    assert page() == before


def test_where_a_pod_has_several_shares_the_mounts_say_which(bench: Bench) -> None:
    """And mounts alone decide where no pod is known; what belongs to nobody is nobody's."""
    first, second = bench.prepare("a"), bench.prepare("b")
    shares = {f"{uid}/{key}": bench.rig.ledger.get(uid) for uid, key in (first, second)}
    plans = {name: entry.plan for name, entry in shares.items() if entry is not None}
    attributor = Attributor(bench.attribution, processes=bench.table, consumers=bench.consumers)
    both = allocated_claim("b", share_result(cores=30, share_id="b-share", memory_gib=8))
    both["status"]["reservedFor"] = [{"resource": "pods", "name": "a-pod", "uid": "a-pod-uid"}]
    bench.consumers.note(both)
    bench.table.pods = {1: "a-pod-uid", 2: "a-pod-uid", 3: "another"}
    bench.mounted = {2: {second}, 3: {second}}
    names = list(plans)
    assert attributor.owner(1, plans) == names[0]
    assert attributor.owner(2, plans) == names[1]
    assert attributor.owner(3, plans) == names[1]
    assert attributor.owner(4, plans) is None
    bench.mounted = {2: {(ClaimUid("other-uid"), ShareKey("gpu-9"))}}
    assert attributor.owner(2, plans) == names[0]


def test_a_new_process_learns_who_uses_the_claims_one_at_a_time(bench: Bench) -> None:
    """Of claims that an earlier one has prepared; an API server that is away is asked again later."""
    for name in "abc":
        bench.prepare(name)
        bench.consumers.forget_others([])
    reads = bench.rig.claims.reads
    bench.rig.claims.down = True
    bench.rounds(2)
    bench.rig.claims.down = False
    bench.rounds(2)
    assert bench.rig.claims.reads == reads + 2
    bench.rounds(120)
    assert bench.rig.claims.reads == reads + 4
    assert [bench.consumers.names(ClaimUid(f"{name}-uid")) for name in "abc"] == [("a-pod",), ("b-pod",), ("c-pod",)]


def test_a_pod_that_came_later_is_found_when_one_of_its_processes_is(bench: Bench) -> None:
    """A process that nobody knows makes the watchdog read the claims again, now and then."""
    bench.prepare("a")
    later = allocated_claim("a", share_result(cores=30, share_id="a-share", memory_gib=8))
    later["status"]["reservedFor"] = [{"resource": "pods", "name": "late", "uid": "late-uid"}]
    bench.rig.claims.add(later)
    bench.driver.held, bench.table.pods = {71: 12 * GIB}, {71: "late-uid"}
    bench.rounds(2)
    assert bench.metric("hami_dra_device_unattributed_memory_bytes", device=gpu().name) == 12 * GIB
    bench.rounds(80)
    assert bench.metric("hami_dra_device_unattributed_memory_bytes", device=gpu().name) == 0
    assert bench.consumers.names(ClaimUid("a-uid")) == ("late",)


def test_a_claim_that_was_replaced_tells_nothing(bench: Bench) -> None:
    """It has the name, and another UID."""
    bench.prepare("a")
    bench.consumers.forget_others([])
    bench.rig.claims.add(allocated_claim("a", uid="another"))
    bench.rounds(2)
    assert bench.consumers.names(ClaimUid("a-uid")) == ()


def test_a_share_that_is_gone_is_gone_from_everywhere(bench: Bench) -> None:
    """From the metrics and from the watchdog, with the row of its claim."""
    bench.prepare("a")
    bench.rounds(2)
    assert bench.metric("hami_dra_share_memory_bytes") == 8 * GIB
    assert bench.metric("hami_dra_share_driver_memory_bytes") == 0
    bench.rig.unprepare(bench.rig.claims.add(allocated_claim("a")))
    bench.rounds(2)
    assert bench.metric("hami_dra_share_memory_bytes") is None
    assert bench.metric("hami_dra_share_driver_memory_bytes") is None
    assert bench.metric("hami_dra_device_shares", device=gpu().name) == 0


def test_a_driver_that_does_not_tell_is_no_reason_to_act(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is one that fails, which is said once."""
    caplog.set_level(logging.WARNING)
    bench.prepare("a")
    bench.driver.held = None
    bench.rounds(20)
    bench.driver.broken = True
    bench.rounds(20)
    assert bench.events.said == []
    assert len([record for record in caplog.records if "not watched" in record.message]) == 1


def test_it_watches_until_the_group_stops(bench: Bench) -> None:
    """In a thread of its own: seldom while there is nothing to watch."""
    clock = FakeClock()
    with Group("watchdog", clock=clock) as group:
        bench.watchdog._group = group
        group.spawn("watchdog", bench.watchdog.run)

        def rested(seconds: float) -> Callable[[], bool]:
            def look() -> bool:
                clock.advance(seconds)
                return clock.waits[-1:] == [seconds]

            return look

        eventually(rested(5.0))
        bench.prepare("a")
        eventually(rested(2.0))
