"""What the watchdog sees, as metrics, read when somebody asks.

Here memory and time are the driver's words; `node.share_metrics` has the guard's.  Who compares them sees what the guard missed.
"""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.node.share_labels import SHARE_LABELS
from hami_dra.node.watchdog import Watchdog

__all__ = ["WatchdogCollector"]


class WatchdogCollector(Collector):
    """Asks the watchdog at each scrape."""

    def __init__(
        self,
        watchdog: Watchdog,
        *,
        labels: Callable[[ClaimPlan, PlannedShare], tuple[str, ...]],
    ) -> None:
        """Ask `watchdog`; `labels` says whose a share is."""
        self._watchdog = watchdog
        self._labels = labels

    def collect(self) -> Iterable[Metric]:
        """All of it."""
        memory = GaugeMetricFamily(
            "hami_dra_share_driver_memory_bytes",
            "Memory that a share's processes hold, by the driver.",
            labels=SHARE_LABELS,
        )
        busy = GaugeMetricFamily(
            "hami_dra_share_driver_busy_ratio",
            "Fraction of its card's time that a share computes, by the driver, averaged over the watchdog's grace.",
            labels=SHARE_LABELS,
        )
        above = GaugeMetricFamily(
            "hami_dra_share_above_limit",
            "1 while the watchdog holds a share for above that limit.",
            labels=(*SHARE_LABELS, "limit"),
        )
        for share in self._watchdog.shares():
            labels = self._labels(share.plan, share.planned)
            memory.add_metric(labels, share.state.memory_bytes)
            busy.add_metric(labels, share.state.busy)
            above.add_metric((*labels, "memory"), float(share.state.memory.raised))
            above.add_metric((*labels, "cores"), float(share.state.cores.raised))
        others = GaugeMetricFamily(
            "hami_dra_device_unattributed_memory_bytes",
            "Memory of a card or partition with shares that processes of no share hold, by the driver.",
            labels=("device",),
        )
        for name, size in self._watchdog.others().items():
            others.add_metric([name], size)
        actions = CounterMetricFamily(
            "hami_dra_watchdog_actions", "Shares found above their limits, by what was done.", labels=("policy",)
        )
        for policy, count in self._watchdog.actions().items():
            actions.add_metric([policy], count)
        return [memory, busy, above, others, actions]
