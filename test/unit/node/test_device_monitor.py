"""What the monitor makes of what drivers say, and whom it tells."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from hami_dra._lib.threads import Group
from hami_dra.core.device_health import DeviceHealth, Effect, Ends, Fault, Pulse, Verdict
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.ids import DeviceName, NodeName
from hami_dra.core.inventory import Inventory, Partition
from hami_dra.node.device_events import DeviceEvents
from hami_dra.node.device_metrics import DeviceCollector
from hami_dra.node.device_monitor import DeviceMonitor
from hami_dra.node.discovery import Discovery
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import gpu, inventory

FIRST, SECOND = gpu(0).name, gpu(1).name
DEAD = Fault(key="xid", value="95", effect=Effect.NO_EXECUTE, ends=Ends.RESET, message="dead")
TOLD = Fault(key="xid", value="31", effect=Effect.NONE, ends=Ends.QUIET, message="page fault")


class Sensor:
    """A driver that says what a test wants it to."""

    def __init__(self) -> None:
        self.happened: list[tuple[DeviceName, Fault]] = []
        self.pulse: dict[DeviceName, Pulse] = {FIRST: Pulse(), SECOND: Pulse()}
        self.broken = ""
        self.asked = 0

    def faults(self) -> Sequence[tuple[DeviceName, Fault]]:
        """Each once."""
        if self.broken:
            raise DriverError(self.broken)
        found, self.happened = self.happened, []
        return found

    def pulses(self, names: Collection[DeviceName]) -> Mapping[DeviceName, Pulse]:
        """Of those that were asked for."""
        self.asked += 1
        if self.broken:
            raise DriverError(self.broken)
        return {name: pulse for name, pulse in self.pulse.items() if name in names}


class Memory:
    """A file, or a disk that is full."""

    def __init__(self) -> None:
        self.text = ""
        self.writes = 0
        self.broken = False

    def read(self) -> str:
        """The text."""
        if self.broken:
            raise NodeStateError("cannot read health.json")
        return self.text

    def write(self, text: str) -> None:
        """Replace the text."""
        if self.broken:
            raise NodeStateError("the disk is full")
        self.text = text
        self.writes += 1


class Node:
    """A monitor of two cards, and what can happen to them."""

    def __init__(self, memory: Memory | None = None, *, boot: str = "boot-1") -> None:
        self.clock = FakeClock()
        self.sensor = Sensor()
        self.memory = memory or Memory()
        self.hardware = inventory(2)
        self.group = Group("test", clock=self.clock)
        self.discovery = Discovery(discover=lambda: self.hardware, group=self.group)
        self.monitor = DeviceMonitor(
            sensors={"nvidia": self.sensor},
            discovery=self.discovery,
            memory=self.memory,
            boot=boot,
            group=self.group,
            clock=self.clock,
        )
        self.changes = 0
        self.monitor.listen(self._changed)
        self.discovery.listen(self.monitor.looked)
        self.monitor.recall()
        self.discovery.look()
        self.round()

    def _changed(self) -> None:
        self.changes += 1

    def round(self, *, after_s: float = 5.0) -> None:
        """A round of the monitor, by default one that asks for pulses."""
        self.clock.advance(after_s)
        self.monitor.round()

    def verdicts(self) -> list[Verdict]:
        """Of both cards."""
        return [device.verdict for device in self.monitor.health()]


def test_a_fault_is_told_at_once_and_a_healthy_node_tells_nothing() -> None:
    """Nobody is woken without a cause; one card's fault is not the other's."""
    node = Node()
    assert (node.changes, node.verdicts()) == (0, [Verdict.HEALTHY, Verdict.HEALTHY])
    node.sensor.happened = [(SECOND, DEAD)]
    node.round(after_s=1.0)
    assert (node.changes, node.verdicts()) == (1, [Verdict.HEALTHY, Verdict.UNHEALTHY])
    node.round()
    assert node.changes == 1
    node.sensor.pulse[SECOND] = Pulse(loads=1)
    node.round()
    assert (node.changes, node.verdicts()) == (2, [Verdict.HEALTHY, Verdict.HEALTHY])


def test_resets_are_counted_for_those_who_told_a_card_something() -> None:
    """A driver that was loaded anew, a card that was lost and is back; a partition forgets with its card."""
    node = Node()
    part = Partition(gpu=FIRST, profile="1g.10gb", start=0).name
    pulses = [Pulse(), Pulse(loads=1), Pulse(loads=1, answers=False), Pulse(loads=1), Pulse(loads=1)]
    counted = []
    for node.sensor.pulse[FIRST] in pulses:
        node.round()
        counted.append(node.monitor.resets(part))
    assert counted == [0, 1, 1, 2, 2]
    assert (node.monitor.resets(FIRST), node.monitor.resets(SECOND)) == (2, 0)
    assert node.monitor.resets(DeviceName("gpu-0000-99-00-0")) == 0


def test_cards_are_asked_every_few_seconds() -> None:
    """What happens is looked for each second; the counters of sixteen cards are not."""
    node = Node()
    for _ in range(10):
        node.round(after_s=1.0)
    assert node.sensor.asked == 3


def test_a_new_process_knows_what_needs_a_reset() -> None:
    """And a new boot forgets it; a healthy card costs no write at all."""
    memory = Memory()
    node = Node(memory)
    assert memory.writes == 1
    node.sensor.happened = [(FIRST, DEAD), (SECOND, TOLD)]
    node.round()
    node.round()
    assert memory.writes == 2
    assert Node(memory).verdicts() == [Verdict.UNHEALTHY, Verdict.HEALTHY]
    assert Node(memory, boot="boot-2").verdicts() == [Verdict.HEALTHY, Verdict.HEALTHY]


def test_a_partition_is_told_of_while_something_is_wrong_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Its card goes on; a new process knows; the card's reset ends it, and that is told too."""
    caplog.set_level(logging.INFO)
    memory, part = Memory(), Partition(gpu=FIRST, profile="1g.10gb", start=0).name
    node = Node(memory)
    node.sensor.happened = [(part, DEAD), (Partition(gpu=gpu(7).name, profile="1g.10gb", start=0).name, DEAD)]
    node.round()
    assert {device.name: device.verdict for device in node.monitor.health()} == {
        FIRST: Verdict.HEALTHY,
        part: Verdict.UNHEALTHY,
        SECOND: Verdict.HEALTHY,
    }
    again = Node(memory)
    assert [device.name for device in again.monitor.health()] == [FIRST, part, SECOND]
    node.sensor.pulse[FIRST] = Pulse(loads=1)
    node.round()
    node.round()
    assert node.verdicts() == [Verdict.HEALTHY, Verdict.HEALTHY]
    said = [record.message for record in caplog.records if getattr(record, "device", "") == part]
    assert said == [
        "device is unhealthy: dead",
        "device is unhealthy: dead",
        "device is healthy: nothing is wrong with it",
    ]


def test_a_partition_of_a_lost_card_is_back_with_its_card() -> None:
    """It is the card that is looked for."""
    node = Node()
    node.sensor.happened = [(Partition(gpu=FIRST, profile="1g.10gb", start=0).name, DEAD)]
    node.sensor.pulse[FIRST] = Pulse(answers=False)
    node.round()
    assert node.monitor.absent() == {FIRST}


def test_what_a_claim_tolerates_is_named_as_in_its_taint() -> None:
    """A toleration without a key is one of everything."""
    node = Node()
    node.sensor.happened = [(FIRST, DEAD)]
    node.round()
    assert node.monitor.unusable(FIRST, frozenset()) == "dead"
    assert node.monitor.unusable(FIRST, frozenset({"gpu.hami.io/ecc"})) == "dead"
    for tolerated in ("gpu.hami.io/xid", ""):
        assert node.monitor.unusable(FIRST, frozenset({tolerated})) == ""


def test_a_full_disk_is_no_reason_not_to_watch(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once for each thing that could not be remembered."""
    memory = Memory()
    memory.broken = True
    node = Node(memory)
    node.sensor.happened = [(FIRST, DEAD)]
    node.round()
    node.round()
    assert node.verdicts()[0] is Verdict.UNHEALTHY
    assert len([r for r in caplog.records if "disk is full" in r.message]) == 2
    assert "what was known of the cards is lost" in caplog.text


def test_a_lost_card_is_still_published_and_looked_for_when_it_is_back() -> None:
    """Until a look at the hardware has found it, so that its device does not vanish in between."""
    node = Node()
    node.sensor.pulse[FIRST] = Pulse(answers=False)
    node.hardware = Inventory(gpus=(gpu(1),))
    node.round()
    node.discovery.look()
    assert node.monitor.absent() == {FIRST}
    published = node.discovery.including(node.monitor.absent())
    assert published is not None
    assert [card.name for card in published.gpus] == [FIRST, SECOND]
    node.sensor.pulse[FIRST] = Pulse()
    node.round()
    assert node.monitor.absent() == {FIRST}
    node.hardware = inventory(2)
    node.discovery.look()
    assert node.monitor.absent() == frozenset()
    assert node.discovery.including(frozenset()) is node.discovery.latest


def test_without_a_look_there_is_nothing_to_include() -> None:
    """Before the first look nothing is known of any card."""
    with Group("test") as group:
        assert Discovery(discover=inventory, group=group).including({FIRST}) is None


def test_a_driver_that_fails_is_looked_at_and_its_cards_are_unknown() -> None:
    """Discovery finds out what it is; what was known stays."""
    node = Node()
    node.sensor.broken = "driver not loaded"
    node.round()
    assert node.discovery.failure == ""
    for _ in range(4):
        node.round()
    assert node.verdicts() == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    node.sensor.broken = ""
    node.round()
    assert node.verdicts() == [Verdict.HEALTHY, Verdict.HEALTHY]


def test_a_driver_that_is_known_to_fail_is_not_looked_at_again_and_again() -> None:
    """Discovery has its own pace then; only a failure that it does not know of wakes it."""
    clock = FakeClock(jumps=False)
    looks: list[int] = []
    sensor = Sensor()

    def look() -> Inventory:
        looks.append(1)
        failures = {"nvidia": "driver not loaded"} if sensor.broken else {}
        return replace(inventory(2), failures=failures)

    with Group("test", clock=clock) as group:
        discovery = Discovery(discover=look, group=group)
        monitor = DeviceMonitor(
            sensors={"nvidia": sensor}, discovery=discovery, memory=Memory(), boot="b", group=group, clock=clock
        )
        group.spawn("discovery", discovery.run)
        eventually(lambda: discovery.latest is not None)
        sensor.broken = "driver not loaded"

        def woken() -> bool:
            monitor.round()
            return len(looks) == 2

        eventually(woken)
        monitor.round()
        assert {device.verdict for device in monitor.health()} == {Verdict.UNKNOWN}
        assert len(looks) == 2


def test_cards_of_a_vendor_without_a_sensor_are_well_while_they_are_there() -> None:
    """Their being listed is all that is known of them."""
    node = Node()
    other = replace(gpu(2), vendor="amd")
    node.hardware = Inventory(gpus=(*inventory(2).gpus, other))
    node.discovery.look()
    node.round()
    assert node.verdicts() == [Verdict.HEALTHY] * 3
    node.hardware = inventory(2)
    node.discovery.look()
    node.round()
    assert node.verdicts()[2] is Verdict.UNHEALTHY


def test_it_watches_until_the_group_stops() -> None:
    """In a thread of its own."""
    node = Node()
    asked = node.sensor.asked
    with node.group:
        node.group.spawn("health", node.monitor.run)

        def moved() -> bool:
            node.clock.advance(1.0)
            return node.sensor.asked > asked + 2

        eventually(moved)


def test_what_keeps_work_away_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A program's fault is not: any tenant can bring it about."""
    caplog.set_level(logging.INFO)
    node = Node()
    node.sensor.happened = [(FIRST, TOLD)]
    node.round()
    node.sensor.happened = [(FIRST, DEAD)]
    node.round()
    levels = [record.levelname for record in caplog.records if record.message.startswith("device is")]
    assert levels == ["INFO", "WARNING"]


class Told:
    """What was said on which object."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str, str]] = []

    def emit(self, regarding: Mapping[str, str], *, event_type: str, reason: str, message: str) -> None:
        """Note it."""
        self.said.append((regarding["kind"], event_type, reason, message))


def test_the_node_says_what_got_worse_and_what_got_better() -> None:
    """Each once; the faults of programs are not told."""
    sink = Told()
    tell = DeviceEvents(sink, node=NodeName("node-1"))  # type: ignore[arg-type] # a TypedDict is a Mapping
    fine = DeviceHealth(name=FIRST, verdict=Verdict.HEALTHY, message="page fault")
    bad = DeviceHealth(name=FIRST, verdict=Verdict.UNHEALTHY, message="dead")
    for device in (fine, bad, fine, fine):
        tell(device)
    assert sink.said == [
        ("Node", "Warning", "CardNotHealth", f"device {FIRST} is unhealthy: dead"),
        ("Node", "Normal", "CardHealth", f"device {FIRST} is healthy again"),
    ]


def test_metrics_tell_the_same_and_forget_what_is_over() -> None:
    """Counts stay, faults go."""
    node = Node()
    registry = CollectorRegistry()
    registry.register(DeviceCollector(node.monitor))
    node.sensor.happened = [(FIRST, DEAD), (FIRST, DEAD)]
    node.round()
    text = generate_latest(registry).decode()
    assert f'hami_dra_device_healthy{{device="{FIRST}"}} 0.0' in text
    assert f'hami_dra_device_healthy{{device="{SECOND}"}} 1.0' in text
    assert f'hami_dra_device_fault{{device="{FIRST}",effect="NoExecute",key="xid",value="95"}} 1.0' in text
    node.sensor.pulse[FIRST] = Pulse(loads=1)
    node.round()
    text = generate_latest(registry).decode()
    assert "hami_dra_device_fault{" not in text
    assert f'hami_dra_device_faults_total{{device="{FIRST}",key="xid",value="95"}} 2.0' in text
