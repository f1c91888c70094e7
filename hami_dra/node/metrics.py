"""The node plugin's metrics.

Made on a registry that is handed in, so that tests and several instances in one process do not meet.  Names and labels are
part of the product: dashboards and alerts build on them.
"""

import contextlib
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hami_dra.core.settings import CardMode

__all__ = ["NodeMetrics"]

_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 5.0, 30.0)


class _Published:
    """What the node publishes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._cards = Gauge(
            "hami_dra_published_cards",
            "Cards in this node's slices, by the mode in which they are.",
            ["mode"],
            registry=registry,
        )
        self._dropped = Gauge(
            "hami_dra_publisher_dropped_gates",
            "1 for each feature gate whose fields the API server drops.",
            ["gate"],
            registry=registry,
        )
        self._devices = Gauge("hami_dra_published_devices", "Devices in this node's slices.", registry=registry)
        self._waiting = Gauge(
            "hami_dra_waiting_cards",
            "Cards that change how they are offered as soon as the claims on them have ended.",
            registry=registry,
        )
        self.failures = Counter(
            "hami_dra_publish_failures_total", "Attempts to publish slices that failed.", ["reason"], registry=registry
        )

    def show(self, *, modes: Mapping[CardMode, int], devices: int, waiting: int, dropped_gates: frozenset[str]) -> None:
        """This is what the slices say now."""
        for mode in CardMode:
            self._cards.labels(mode).set(modes.get(mode, 0))
        self._dropped.clear()
        for gate in dropped_gates:
            self._dropped.labels(gate).set(1)
        self._devices.set(devices)
        self._waiting.set(waiting)


class NodeMetrics:
    """What the services report."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._steps = Histogram(
            "hami_dra_prepare_seconds",
            "Time that a step of preparing a claim takes; step `total` is the whole of it.",
            ["step"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._step_children: dict[str, Histogram] = {}
        """`labels` takes a lock and builds a key, seven times in each prepare."""
        self._shares = Gauge("hami_dra_prepared_shares", "Shares that are prepared on this node.", registry=registry)
        self._prepare_failures = Counter(
            "hami_dra_prepare_failures_total", "Claims that could not be prepared.", ["reason"], registry=registry
        )
        self._unprepare_failures = Counter(
            "hami_dra_unprepare_failures_total", "Claims that could not be unprepared.", ["reason"], registry=registry
        )
        self._published = _Published(registry)

        self._dropped_news = Gauge(
            "hami_dra_dropped_messages",
            "Events and conditions that were not written since the start, for want of room or a willing API server.",
            ["kind"],
            registry=registry,
        )
        self._granted = Gauge(
            "hami_dra_share_compute_granted_ratio",
            "Compute that a share may use for now, as a fraction of its device; above 1 to make up for what its guard overrates.",
            ["namespace", "claim", "share"],
            registry=registry,
        )
        self._arbiter_failures = Counter(
            "hami_dra_arbiter_failures_total",
            "Times that figures of the driver could not be read or a grant not be written.",
            ["reason"],
            registry=registry,
        )

        self._released = Counter(
            "hami_dra_released_claims_total",
            "Claims that kubelet forgot and that were released because nobody could use them any more.",
            registry=registry,
        )

    def observe_step(self, step: str, seconds: float) -> None:
        """A step of a prepare took that long."""
        child = self._step_children.get(step)
        if child is None:
            child = self._step_children[step] = self._steps.labels(step)
        child.observe(seconds)

    def prepare_failed(self, reason: str) -> None:
        """A claim could not be prepared."""
        self._prepare_failures.labels(reason).inc()

    def unprepare_failed(self, reason: str) -> None:
        """A claim could not be unprepared."""
        self._unprepare_failures.labels(reason).inc()

    def claim_released(self) -> None:
        """A claim that kubelet forgot was released."""
        self._released.inc()

    def count_shares(self, count: Callable[[], float]) -> None:
        """Ask `count` for the number of prepared shares whenever metrics are read."""
        self._shares.set_function(count)

    def count_dropped(self, *, events: Callable[[], float], status: Callable[[], float]) -> None:
        """Ask how much was not said to the API server whenever metrics are read."""
        self._dropped_news.labels("event").set_function(events)
        self._dropped_news.labels("status").set_function(status)

    def granted(self, share: Mapping[str, str], ratio: float) -> None:
        """A share may use that much from now on; `share` has namespace, claim and share."""
        self._granted.labels(**share).set(ratio)

    def share_gone(self, share: Mapping[str, str]) -> None:
        """A share is no more."""
        with contextlib.suppress(KeyError):  # it never had a grant
            self._granted.remove(*(share[label] for label in ("namespace", "claim", "share")))

    def arbiter_failed(self, reason: str) -> None:
        """A round of the arbiter could not do all that it should."""
        self._arbiter_failures.labels(reason).inc()

    def published(
        self, *, modes: Mapping[CardMode, int], devices: int, waiting: int, dropped_gates: frozenset[str]
    ) -> None:
        """The node's slices are as they should be."""
        self._published.show(modes=modes, devices=devices, waiting=waiting, dropped_gates=dropped_gates)

    def publish_failed(self, reason: str) -> None:
        """An attempt to publish failed."""
        self._published.failures.labels(reason).inc()
