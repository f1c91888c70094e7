"""Composition of what the node plugin watches: the health of devices, and what shares do with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hami_dra._lib.clock import SYSTEM_CLOCK
from hami_dra.api.opaque import Isolation
from hami_dra.core.device_health import of_devices
from hami_dra.core.errors import NodeStateError
from hami_dra.core.record import held_devices
from hami_dra.core.settings import WatchdogSettings
from hami_dra.core.slices import pool_name
from hami_dra.host.health_file import HealthFile
from hami_dra.host.live_shares import LiveShares
from hami_dra.host.process_table import ProcessTable
from hami_dra.host.processes import ShareProcesses
from hami_dra.node.arbiter import Arbiter
from hami_dra.node.attributor import Attributor
from hami_dra.node.claim_news import ClaimNews
from hami_dra.node.containers import Containers
from hami_dra.node.device_events import DeviceEvents
from hami_dra.node.device_metrics import DeviceCollector
from hami_dra.node.device_monitor import DeviceMonitor
from hami_dra.node.health_stream import HealthStream
from hami_dra.node.mps_sensor import MpsSensor
from hami_dra.node.mps_watch import MpsCollector, MpsWatch
from hami_dra.node.ports import Attribution
from hami_dra.node.share_labels import ShareLabels
from hami_dra.node.share_metrics import ShareCollector
from hami_dra.node.time_slice_watch import TimeSliceCollector, TimeSliceWatch
from hami_dra.node.watchdog import Watchdog
from hami_dra.node.watchdog_metrics import WatchdogCollector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from hami_dra._lib.threads import Group
    from hami_dra.core.ids import DeviceName, GpuUuid, NodeName
    from hami_dra.core.settings import NodeSettings
    from hami_dra.node.consumers import Consumers
    from hami_dra.node.discovery import Discovery
    from hami_dra.node.metrics import NodeMetrics
    from hami_dra.node.modes import CardModes
    from hami_dra.node.ports import ClaimReader, EventSink, NodeFiles
    from hami_dra.node.service import ClaimListener
    from hami_dra.node.vendors import Vendors

__all__ = ["Watching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """What the watchers are made of."""

    group: Group
    node: NodeName
    state_dir: Path
    kubelet_root: Path
    files: NodeFiles
    vendors: Vendors
    discovery: Discovery
    consumers: Consumers
    events: EventSink
    registry: CollectorRegistry
    metrics: NodeMetrics

    def monitor(self) -> DeviceMonitor:
        """Who knows how the devices are; not running yet."""
        monitor = DeviceMonitor(
            sensors={name: MpsSensor(sensor, self.files.mps) for name, sensor in self.vendors.sensors().items()},
            discovery=self.discovery,
            memory=HealthFile(self.state_dir / "health.json"),
            boot=self.files.boot,
            group=self.group,
        )
        monitor.recall()
        self.discovery.listen(monitor.looked)
        monitor.listen_devices(DeviceEvents(self.events, node=self.node))
        self.registry.register(DeviceCollector(monitor))
        return monitor

    def modes(self, modes: CardModes, *, claims: ClaimReader, listener: ClaimListener) -> None:
        """Watch the modes of cards; `listener` hears of claims that are not ready any more, and ready again."""
        self.registry.register(MpsCollector(self.files.mps))
        mps = ClaimNews(files=self.files, claims=claims, listener=listener, isolation=Isolation.MPS)
        self.group.spawn("MPS daemons", MpsWatch(self.files.mps, news=mps, group=self.group).run)
        slices = ClaimNews(files=self.files, claims=claims, listener=listener, isolation=Isolation.TIME_SLICING)
        watch = TimeSliceWatch(modes, news=slices, group=self.group)
        self.registry.register(TimeSliceCollector(lambda: watch.failures))
        self.group.spawn("time slices", watch.run)

    def health_stream(self, monitor: DeviceMonitor) -> HealthStream:
        """Watch the devices; what kubelet hears of them."""
        stream = HealthStream(pool=pool_name(self.node), look=lambda: of_devices(monitor.health(), self._held()))
        self.discovery.listen(stream.changed)
        monitor.listen(stream.changed)
        self.group.on_stop(stream.close)
        self.group.spawn("health", monitor.run)
        return stream

    def _held(self) -> frozenset[DeviceName]:
        """The devices of which kubelet wants to hear: pods have them."""
        try:
            return held_devices(self.files.ledger.entries(), boot=self.files.boot)
        except NodeStateError:
            return frozenset()  # cards are told all the same

    def shares(self, settings: Callable[[], NodeSettings], *, attribution: bool) -> None:
        """Start the arbiter and, where processes can be told apart, the watchdog; count shares.

        Args:
            settings: of the node's cards, asked for at every look.
            attribution: whether processes of other pods can be seen.
        """
        ledger = self.files.ledger
        self.metrics.count_shares(lambda: sum(len(entry.plan.shares) for entry in ledger.entries()))
        claims_dir = self.state_dir / "claims"
        processes = ShareProcesses(claims_dir, kubelet_root=self.kubelet_root)
        container = Containers(processes.containers).name if attribution else None
        labels = ShareLabels(pods=self.consumers.names, container=container)
        live = LiveShares(claims_dir, lock=self.state_dir / "limits.lock")
        self.registry.register(
            ShareCollector(
                ledger=ledger,
                boot=self.files.boot,
                usage=live.usage,
                inventory=lambda: self.discovery.latest,
                labels=labels,
            )
        )
        watchdog = self._watchdog(claims_dir, settings) if attribution else None
        arbiter = Arbiter(
            shares=live,
            ledger=ledger,
            boot=self.files.boot,
            attribution=self._attribution(claims_dir) if attribution else None,
            metrics=self.metrics,
            group=self.group,
            throttled=frozenset if watchdog is None else watchdog.throttled,
            clock=SYSTEM_CLOCK,
        )
        self.group.spawn("arbiter", arbiter.run)
        if watchdog is not None:
            self.registry.register(WatchdogCollector(watchdog, labels=labels))
            self.group.spawn("watchdog", watchdog.run)

    def _attribution(self, claims_dir: Path) -> Attribution:
        """For one thread."""
        return Attribution(meter=self.vendors, owner=ShareProcesses(claims_dir))

    def _watchdog(self, claims_dir: Path, settings: Callable[[], NodeSettings]) -> Watchdog:
        def card_settings(uuid: GpuUuid) -> WatchdogSettings:
            inventory = self.discovery.latest
            gpu = None if inventory is None else next((gpu for gpu in inventory.gpus if gpu.uuid == uuid), None)
            chosen = None if gpu is None else settings().settings_for(gpu)
            return WatchdogSettings() if chosen is None else chosen.watchdog

        return Watchdog(
            ledger=self.files.ledger,
            boot=self.files.boot,
            attributor=Attributor(self._attribution(claims_dir), processes=ProcessTable(), consumers=self.consumers),
            settings=card_settings,
            events=self.events,
            group=self.group,
        )
