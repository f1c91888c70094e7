"""Watches the health of the cards: asks the driver, keeps the books, tells whoever has to know.

Once a second for what happened, every few seconds for how the cards are.  `core.device_health` decides; slices, kubelet, metrics
and Events all repeat its verdict.  What only a reset ends is remembered in a file, so that a new process of this plugin does not
take a broken card for a good one.  A driver that cannot be asked is no reason to stop: the cards' state is then unknown.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping

from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.api.names import TAINT_PREFIX
from hami_dra.core.device_health import (
    CardHealth,
    DeviceHealth,
    Effect,
    Fault,
    Pulse,
    Verdict,
    judge,
    step,
    why_unusable,
)
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.health_record import from_json, to_json
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu, Inventory, card_of
from hami_dra.node.discovery import Discovery
from hami_dra.node.ports import HealthMemory, HealthSensor

__all__ = ["DeviceMonitor", "HealthListener"]

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_PULSE_S = 5.0

HealthListener = Callable[[DeviceHealth], None]


class DeviceMonitor:
    """The health of this node's devices."""

    def __init__(
        self,
        *,
        sensors: Mapping[str, HealthSensor],
        discovery: Discovery,
        memory: HealthMemory,
        boot: str,
        group: Group,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Nothing is asked before `run` or `round`.

        Args:
            sensors: ask the drivers, by vendor; of the cards of other vendors it is known whether they are there.
            discovery: knows which devices there are, and whether the driver answers.
            memory: outlives this process.
            boot: id of the running boot.
            group: whose stop ends `run`.
            clock: measures how long things last.
        """
        self._sensors = sensors
        self._discovery = discovery
        self._memory = memory
        self._boot = boot
        self._group = group
        self._clock = clock
        self._lock = threading.Lock()
        """Over the books: slices, kubelet and metrics read them from other threads."""
        self._cards: dict[DeviceName, CardHealth] = {}
        """Of cards, and of those partitions with which something is wrong."""
        self._back: set[DeviceName] = set()
        """Cards that answer again and that no look at the hardware has seen since."""
        self._asked_s = float("-inf")
        self._listeners: list[Callable[[], None]] = []
        self._device_listeners: list[HealthListener] = []
        self._counts: dict[tuple[DeviceName, str, str], int] = {}
        self._told: dict[DeviceName, DeviceHealth] = {}
        self._remembered = ""

    def recall(self) -> None:
        """Take up what the process before has remembered; before `run`."""
        try:
            self._remembered = self._memory.read()
        except NodeStateError as error:
            _log.warning("what was known of the cards is lost: %s", error)
        self._cards = from_json(self._remembered, boot=self._boot)

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change of any device's health; before `run`."""
        self._listeners.append(listener)

    def listen_devices(self, listener: HealthListener) -> None:
        """The same, once for each device that changed, with what is said of it now."""
        self._device_listeners.append(listener)

    def health(self) -> tuple[DeviceHealth, ...]:
        """How all cards are that were ever seen, and the partitions of which more is to be said."""
        with self._lock:
            cards = dict(self._cards)
        failure = self._discovery.failure
        latest = self._discovery.latest or Inventory()
        failures = {name: failure or latest.failures.get(gpu.vendor, "") for name, gpu in self._discovery.ever.items()}
        return judge(cards, failures=failures, now_s=self._clock.monotonic())

    def unusable(self, name: DeviceName, tolerated: frozenset[str]) -> str:
        """Why no program could run on a device, by faults whose keys (as taints have them) are not tolerated."""

        def accepted(key: str) -> bool:
            return not tolerated.isdisjoint({"", f"{TAINT_PREFIX}{key}"})

        return why_unusable(self.health(), name, tolerated=accepted)

    def absent(self) -> frozenset[DeviceName]:
        """The devices that no look finds and that are to be published all the same: lost, or back a moment ago."""
        with self._lock:
            return frozenset(self._back | {card_of(name) for name, card in self._cards.items() if card.lost})

    def resets(self, name: DeviceName) -> int:
        """How often the device's card was seen to have been reset, or its driver loaded anew."""
        with self._lock:
            return self._cards.get(card_of(name), CardHealth()).resets

    def counts(self) -> Mapping[tuple[DeviceName, str, str], int]:
        """How often each fault happened, by device, key and value."""
        with self._lock:
            return dict(self._counts)

    def looked(self) -> None:
        """The hardware was looked at: whatever is there is in the inventory."""
        with self._lock:
            self._back.clear()

    def run(self) -> None:
        """Watch until the group stops."""
        while not self._group.stopping:
            self.round()
            self._group.wait(_LOOK_S)

    def round(self) -> None:
        """Ask, book, tell."""
        now_s = self._clock.monotonic()
        ever = self._discovery.ever
        happened = self._happened()
        if not happened and now_s - self._asked_s < _PULSE_S:
            return
        self._asked_s = now_s
        pulses = self._pulses(ever)
        returned = False
        with self._lock:
            for name in {*ever, *happened, *self._cards}:
                card = card_of(name)
                if card not in ever:
                    continue
                before = self._cards.get(name, CardHealth())
                after = step(before, pulse=pulses.get(card), faults=happened.get(name, ()), now_s=now_s)
                if before.lost and not after.lost:
                    self._back.add(card)
                    returned = True
                self._cards[name] = after
                if name != card and not after.sightings:
                    del self._cards[name]
            for name, faults in happened.items():
                for fault in faults:
                    count = name, fault.key, fault.value
                    self._counts[count] = self._counts.get(count, 0) + 1
        if returned:
            self._discovery.wake()
        self._remember()
        self._tell()

    def _happened(self) -> dict[DeviceName, list[Fault]]:
        found: dict[DeviceName, list[Fault]] = {}
        for sensor in self._sensors.values():
            with self._failing():
                for name, fault in sensor.faults():
                    found.setdefault(name, []).append(fault)
        return found

    def _pulses(self, ever: Mapping[DeviceName, Gpu]) -> dict[DeviceName, Pulse]:
        latest = self._discovery.latest or Inventory()
        found = {
            name: Pulse(answers=latest.gpu(name) is not None)
            for name, gpu in ever.items()
            if gpu.vendor not in self._sensors
        }
        for vendor, sensor in self._sensors.items():
            with self._failing():
                found |= sensor.pulses([name for name, gpu in ever.items() if gpu.vendor == vendor])
        return found

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """A driver that does not answer is for discovery to look at: it says how it fails, and notices when it is back."""
        try:
            yield
        except DriverError:
            latest = self._discovery.latest
            if not self._discovery.failure and latest is not None and not latest.failures:
                self._discovery.wake()

    def _remember(self) -> None:
        text = to_json(self._cards, boot=self._boot)
        if text == self._remembered:
            return
        try:
            self._memory.write(text)
        except NodeStateError as error:
            _log.warning("what is known of the cards would not outlive this process: %s", error)
        self._remembered = text

    def _tell(self) -> None:
        changed = False
        now = {device.name: device for device in self.health()}
        well = {name: DeviceHealth(name=name, verdict=Verdict.HEALTHY) for name in self._told.keys() - now.keys()}
        for device in (*now.values(), *well.values()):
            before = self._told.get(device.name)
            if device == before or (before is None and device.verdict is Verdict.HEALTHY and not device.faults):
                continue
            changed = True
            self._told[device.name] = device
            level = logging.WARNING if any(f.effect is not Effect.NONE for f in device.faults) else logging.INFO
            _log.log(
                level,
                "device is %s: %s",
                device.verdict.name.lower(),
                device.message or "nothing is wrong with it",
                extra={"device": device.name, "faults": [f"{f.key}={f.value}:{f.effect}" for f in device.faults]},
            )
            for told in self._device_listeners:
                told(device)
        if changed:
            for listener in self._listeners:
                listener()
