"""docs/metrics.md lists what the node plugin exports: each metric with its kind and labels, none more, none less."""

import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from unit.node.test_watchdog import Bench, bench

from hacklib.paths import REPOSITORY
from hami_dra.core.device_health import DeviceHealth, Effect, Ends, Fault, Verdict
from hami_dra.core.ids import DeviceName
from hami_dra.node.config_metrics import ConfigMetrics
from hami_dra.node.device_metrics import DeviceCollector
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.mps_watch import MpsCollector
from hami_dra.node.share_labels import SHARE_LABELS
from hami_dra.node.share_metrics import ShareCollector
from hami_dra.node.time_slice_watch import TimeSliceCollector
from hami_dra.node.watchdog_metrics import WatchdogCollector
from hami_dra.testing.modes import FakeMps

__all__ = ["bench"]
_ROW = re.compile(r"\| `(hami_dra_\w+)` \| (\w+) \| (.*?) \| .+ \|")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Kind and labels by name; `share` stands for the labels of a share."""
    page = (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = {}
    for row in filter(None, map(_ROW.fullmatch, page.splitlines())):
        labels = frozenset(re.findall(r"`(\w+)`", row[3])) | (
            frozenset(SHARE_LABELS) if "of a share" in row[3] else set()
        )
        found[row[1]] = (row[2], labels)
    return found


def exported(registry: CollectorRegistry) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Name, kind and labels of all that the registry has."""
    for collector in list(registry._collector_to_names):
        for metric in collector.collect():
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            yield name, metric.type, labels_of(metric, getattr(collector, "_labelnames", None))


def labels_of(metric: Metric, names: tuple[str, ...] | None) -> frozenset[str]:
    """By the metric itself, or by its first sample."""
    known = names if names is not None else getattr(metric, "_labelnames", ())
    return frozenset(known)


def test_the_page_lists_what_is_exported(bench: Bench) -> None:
    """Dashboards and alerts are written by it."""
    registry = CollectorRegistry()
    NodeMetrics(registry)
    ConfigMetrics(registry)
    rig = bench.rig

    class Source:
        def health(self) -> tuple[DeviceHealth, ...]:
            fault = Fault(key="k", value="v", effect=Effect.NONE, ends=Ends.RESET, message="m")
            return (DeviceHealth(name=DeviceName("d"), verdict=Verdict.HEALTHY, faults=(fault,)),)

        def counts(self) -> dict[tuple[DeviceName, str, str], int]:
            return {(DeviceName("d"), "k", "v"): 1}

    registry.register(DeviceCollector(Source()))
    registry.register(MpsCollector(FakeMps()))
    registry.register(TimeSliceCollector(dict))
    registry.register(WatchdogCollector(bench.watchdog, labels=bench.labels))
    registry.register(
        ShareCollector(
            ledger=rig.ledger,
            boot=rig.boot,
            usage=bench.live.usage,
            inventory=lambda: rig.discovery.latest,
            labels=bench.labels,
        )
    )
    assert {name: (kind, labels) for name, kind, labels in exported(registry)} == documented()
