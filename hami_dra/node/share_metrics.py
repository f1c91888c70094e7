"""Who has how much of which card, as metrics, read when somebody asks.

A collector, not gauges: a share is there from its row in the ledger on and gone with it, in whatever way it went.  What a share
used is its guard's word, in a file that belongs to the tenant: read with pread, and never believed to be more than can be.
Labels name objects of the cluster, as many as there are shares on this node.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hami_dra.core.errors import HamiDraError
from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.core.inventory import Inventory
from hami_dra.core.plan import ClaimPlan, PlannedShare
from hami_dra.core.record import Entry
from hami_dra.core.usage import Usage
from hami_dra.node.share_labels import SHARE_LABELS

__all__ = ["ShareCollector"]

_log = logging.getLogger(__name__)

_MOST_S: Final = 1e9
"""Thirty years: no share has used more GPU time."""


class Rows(Protocol):
    """What is prepared."""

    def entries(self) -> list[Entry]:
        """Everything, those of another boot too."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    labels: tuple[str, ...]
    planned: PlannedShare
    usage: Usage | None


class ShareCollector(Collector):
    """Asks ledger and usage files at each scrape."""

    def __init__(
        self,
        *,
        ledger: Rows,
        boot: str,
        usage: Callable[[ClaimUid, ShareKey], Usage | None],
        inventory: Callable[[], Inventory | None],
        labels: Callable[[ClaimPlan, PlannedShare], tuple[str, ...]],
    ) -> None:
        """Look there.

        Args:
            ledger: what is prepared.
            boot: id of the running boot: rows of another one are nothing.
            usage: what the guards of a share say.
            inventory: the newest one.
            labels: whose a share is.
        """
        self._ledger = ledger
        self._boot = boot
        self._usage = usage
        self._inventory = inventory
        self._labels = labels

    def describe(self) -> Iterable[Metric]:
        """Names only: nothing is asked for a registration."""
        return [*_families().values()]

    def collect(self) -> Iterable[Metric]:
        """All of it; the cards alone where the ledger cannot be read."""
        families = _families()
        shares: list[_Share] = []
        try:
            shares = list(self._shares())
        except HamiDraError as error:
            _log.warning("shares cannot be counted: %s", error)
        for share in shares:
            _add_share(families, share)
        inventory = self._inventory()
        for gpu in () if inventory is None else inventory.gpus:
            mine = [share for share in shares if share.planned.gpu_uuid == gpu.uuid]
            charged = [share.planned for share in mine if not share.planned.spec.admin_access]
            for name, value in (
                ("device_memory_bytes", gpu.memory_bytes),
                ("device_memory_allocated_bytes", sum(planned.memory_bytes for planned in charged)),
                ("device_memory_used_bytes", min(gpu.memory_bytes, sum(_used(share) for share in mine))),
                ("device_cores_allocated_percent", sum(planned.cores_percent for planned in charged)),
                ("device_shares", len(mine)),
            ):
                families[name].add_metric([gpu.name], value)
        return families.values()

    def _shares(self) -> Iterator[_Share]:
        for entry in self._ledger.entries():
            if entry.boot == self._boot:
                for planned in entry.plan.shares:
                    yield _Share(
                        labels=self._labels(entry.plan, planned),
                        planned=planned,
                        usage=self._usage(entry.plan.uid, planned.spec.key),
                    )


def _add_share(families: Mapping[str, GaugeMetricFamily | CounterMetricFamily], share: _Share) -> None:
    planned, usage = share.planned, share.usage
    card = planned.device_memory_bytes
    values: dict[str, float] = {
        "share_memory_bytes": planned.memory_bytes,
        "share_cores_percent": planned.cores_percent,
    }
    if usage is not None:
        values |= {
            "share_memory_used_bytes": _used(share),
            "share_memory_peak_bytes": min(card, usage.peak_bytes),
            "share_processes": len(usage.processes),
            "share_gpu_seconds": min(_MOST_S, usage.gpu_time_ns / 1e9),
            "share_throttled_seconds": min(_MOST_S, usage.throttled_ns / 1e9),
            "share_memory_refused": usage.refused_total,
        }
    for name, value in values.items():
        families[name].add_metric(share.labels, value)


def _used(share: _Share) -> int:
    """Memory of the device: no share holds more than there is, whatever its file says."""
    return 0 if share.usage is None else min(share.planned.device_memory_bytes, share.usage.used_bytes)


def _families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
    gauges = {
        "device_memory_bytes": "Memory of a card.",
        "device_memory_allocated_bytes": "Memory of a card that prepared shares were charged.",
        "device_memory_used_bytes": "Memory of a card that its shares use, by their guards.",
        "device_cores_allocated_percent": "Cores of a card that prepared shares were charged.",
        "device_shares": "Shares that are prepared on a card.",
        "share_memory_bytes": "Memory that a share may use.",
        "share_cores_percent": "Cores that a share was promised, in percent of its card; 0: none.",
        "share_memory_used_bytes": "Memory that a share uses, by its guard.",
        "share_memory_peak_bytes": "The most memory that a share has used, by its guard.",
        "share_processes": "Processes of a share that use its card, by its guard.",
    }
    counters = {
        "share_gpu_seconds": "GPU time that a share has used, by its guard.",
        "share_throttled_seconds": "Time for which launches of a share had to wait.",
        "share_memory_refused": "Allocations of a share that were refused.",
    }
    found: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
    for name, text in gauges.items():
        found[name] = GaugeMetricFamily(f"hami_dra_{name}", text, labels=_labels(name))
    for name, text in counters.items():
        found[name] = CounterMetricFamily(f"hami_dra_{name}", text, labels=_labels(name))
    return found


def _labels(name: str) -> tuple[str, ...]:
    return SHARE_LABELS if name.startswith("share_") else ("device",)
