"""The health of devices as metrics, read when somebody asks.

A collector, not gauges: a fault that is over, and a device that is gone for good, leave nothing behind.  Labels are bounded: keys
and values of faults come from a vendor's table.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hami_dra.core.device_health import DeviceHealth, Verdict
from hami_dra.core.ids import DeviceName

__all__ = ["DeviceCollector", "HealthSource"]


class HealthSource(Protocol):
    """Who knows how the devices are."""

    def health(self) -> tuple[DeviceHealth, ...]:
        """How all devices are."""
        ...

    def counts(self) -> Mapping[tuple[DeviceName, str, str], int]:
        """How often each fault happened, by device, key and value."""
        ...


class DeviceCollector(Collector):
    """Asks the source at each scrape."""

    def __init__(self, source: HealthSource) -> None:
        """Ask `source`."""
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """All of it."""
        healthy = GaugeMetricFamily(
            "hami_dra_device_healthy", "1 for a device that takes new work, 0 for another.", labels=["device"]
        )
        standing = GaugeMetricFamily(
            "hami_dra_device_fault",
            "1 for each fault that a device has; the effect is that of its taint.",
            labels=["device", "key", "value", "effect"],
        )
        happened = CounterMetricFamily(
            "hami_dra_device_faults", "Faults that the driver told of.", labels=["device", "key", "value"]
        )
        for device in self._source.health():
            healthy.add_metric([device.name], float(device.verdict is Verdict.HEALTHY))
            for key, value, effect in sorted({(f.key, f.value, f.effect.value) for f in device.faults}):
                standing.add_metric([device.name, key, value, effect], 1)
        for (name, key, value), count in sorted(self._source.counts().items()):
            happened.add_metric([name, key, value], count)
        return [healthy, standing, happened]
