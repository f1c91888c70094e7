"""Sees to it that cards take turns by the interval of their shares, also after the driver has forgotten it.

A driver that was loaded anew, and a card that was lost or reset, has its default again, while the pods run on.  It is told in a
thread of its own: the driver's tool may take its time, and no prepare is to wait for that.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hami_dra._lib.threads import Group
from hami_dra.core.errors import DriverError, KubeError, NodeStateError
from hami_dra.core.ids import DeviceName
from hami_dra.node.claim_news import ClaimNews
from hami_dra.node.modes import CardModes

__all__ = ["TimeSliceCollector", "TimeSliceWatch"]

_log = logging.getLogger(__name__)

_PERIOD_S = 5.0


class TimeSliceWatch:
    """The turns of cards, as their claims want them."""

    def __init__(self, modes: CardModes, *, news: ClaimNews, group: Group) -> None:
        """Tell the driver by `modes`, and claims by `news`."""
        self._modes = modes
        self._news = news
        self._group = group
        self.failures: Mapping[DeviceName, str] = {}
        """Of each card that takes turns by its shares' interval why it does not; empty where it does."""
        self._first = True
        """Until a round has come to its end: claims may have heard bad news from an earlier process."""

    def run(self) -> None:
        """Watch until the group stops."""
        while not self._group.stopping:
            try:
                self.round()
            except (NodeStateError, KubeError) as error:
                _log.warning("what became of time slices could not be told: %s", error)
            self._group.wait(_PERIOD_S)

    def round(self) -> None:
        """Tell the driver what it does not know, and claims what became of it.

        Raises:
            NodeStateError: the ledger cannot be read.
            KubeError: a claim cannot be read; it is tried again.
        """
        before = self.failures
        found = self._modes.settle()
        self.failures = {device: "" if error is None else str(error) for device, error in found.items()}
        for device in before.keys() - found.keys():
            self._news.forget(device)
        for device, error in found.items():
            if error is not None:
                if before.get(device) != str(error):
                    _log.warning("the time slice of %s is not as its shares want it: %s", device, error)
                self._news.bad(device, partial(_not_set, device, error))
                continue
            if self._first:
                self._news.assume_bad(device)
            self._news.good(device)
        self._first = False


def _not_set(device: DeviceName, error: DriverError, claim: str) -> DriverError:
    return DriverError(f"{claim}: turns on {device} are not as long as it wants them, and it is tried again: {error}")


class TimeSliceCollector(Collector):
    """The metric of cards that take turns by their shares' interval, as long as they have such shares."""

    def __init__(self, failures: Callable[[], Mapping[DeviceName, str]]) -> None:
        """Ask for the failures of cards at each scrape."""
        self._failures = failures

    def collect(self) -> Iterable[Metric]:
        """One sample for each card."""
        set_ = GaugeMetricFamily(
            "hami_dra_time_slice_set",
            "1 while turns on the device last as long as its shares want, 0 while the driver refuses.",
            labels=["device"],
        )
        for device, failure in sorted(self._failures().items()):
            set_.add_metric([device], 0.0 if failure else 1.0)
        return [set_]
