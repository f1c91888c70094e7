"""Metrics of the node configuration; see `node.metrics` for the rules."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

__all__ = ["ConfigMetrics", "Source"]


class Source(StrEnum):
    """Where the configuration in force comes from."""

    CONFIG_MAP = "ConfigMap"
    LAST_GOOD = "LastGood"
    """It was in force before; the ConfigMap is wrong or could not be read since this process started."""
    DEFAULTS = "Defaults"
    """There is no ConfigMap, or no good one was ever seen on this node."""


class ConfigMetrics:
    """What `node.configuration` reports."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._source = Gauge(
            "hami_dra_node_config_source",
            "1 for where the node configuration in force comes from.",
            ["source"],
            registry=registry,
        )
        self._refused = Gauge(
            "hami_dra_node_config_refused",
            "1 while the ConfigMap as it stands is wrong, and what was in force before stays.",
            registry=registry,
        )
        self._loads = Counter(
            "hami_dra_node_config_loads_total", "Node configurations that were read.", ["result"], registry=registry
        )
        for result in ("accepted", "refused"):
            self._loads.labels(result)

    def in_force(self, source: Source) -> None:
        """This is where the configuration comes from now."""
        for each in Source:
            self._source.labels(each).set(each is source)

    def loaded(self, *, accepted: bool) -> None:
        """The ConfigMap was read."""
        self._loads.labels("accepted" if accepted else "refused").inc()
        self._refused.set(not accepted)

    def gone(self) -> None:
        """There is no ConfigMap."""
        self._refused.set(0)
