"""Tells the claims of a card that their MPS control daemon has ended, and that it is back.

The clients of a daemon die with it, so whoever looks at a pod that failed must find the reason there: an Event on claim and pods,
and `Ready=False` until the daemon serves again.
"""

import logging
from collections.abc import Iterable
from functools import partial

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hami_dra._lib.threads import Group
from hami_dra.core.errors import KubeError, MpsNotReady, NodeStateError
from hami_dra.core.ids import DeviceName
from hami_dra.core.mps import Answer
from hami_dra.node.claim_news import ClaimNews
from hami_dra.node.ports import MpsDaemons

__all__ = ["MpsCollector", "MpsWatch"]

_log = logging.getLogger(__name__)

_PERIOD_S = 0.5
_NO_KEEPER = Answer(serves=None, message="hami-dra mps does not run on this node")


class MpsWatch:
    """The daemons, as their claims want to know of them."""

    def __init__(self, daemons: MpsDaemons, *, news: ClaimNews, group: Group) -> None:
        """Look at `daemons`, and tell claims by `news`."""
        self._daemons = daemons
        self._news = news
        self._group = group
        self._ends: dict[DeviceName, int] = {}
        """How often each had ended when it was last looked at."""

    def run(self) -> None:
        """Watch until the group stops."""
        while not self._group.stopping:
            try:
                self.round()
            except (NodeStateError, KubeError) as error:
                _log.warning("what became of MPS control daemons could not be told: %s", error)
            self._group.wait(_PERIOD_S)

    def round(self) -> None:
        """Look at each daemon, and tell what is new.

        Raises:
            NodeStateError: the ledger cannot be read.
            KubeError: a claim cannot be read; it is tried again.
        """
        wanted = self._daemons.wanted()
        for device in [name for name in self._ends if name not in wanted]:
            del self._ends[device]
            self._news.forget(device)
        for device in wanted:
            answer = self._daemons.answer(device) or _NO_KEEPER
            first = device not in self._ends
            again = self._ends.get(device, 0) != answer.ends
            self._ends[device] = answer.ends
            if first and answer.serves is not None:
                # It may have ended under an earlier process of this plugin, which did not live to say that it is back.
                if again:
                    self._news.assume_bad(device)
            elif again or answer is _NO_KEEPER:
                self._news.bad(device, partial(_ended, device, answer))
            if answer.serves is not None:
                self._news.good(device)


def _ended(device: DeviceName, answer: Answer, claim: str) -> MpsNotReady:
    said = f"the MPS control daemon of {device} has ended, and with it the programs that were its clients"
    return MpsNotReady(f"{claim}: {said}{f': {answer.message}' if answer.message else ''}")


class MpsCollector(Collector):
    """Metrics of the daemons, from when they are asked for until nobody needs them."""

    def __init__(self, daemons: MpsDaemons) -> None:
        """Ask `daemons` at each scrape."""
        self._daemons = daemons

    def collect(self) -> Iterable[Metric]:
        """One sample for each daemon."""
        ready = GaugeMetricFamily(
            "hami_dra_mps_daemon_ready",
            "1 while the MPS control daemon of the device takes clients.",
            labels=["device"],
        )
        ends = CounterMetricFamily(
            "hami_dra_mps_daemon_ends",
            "How often the MPS control daemon of the device ended without being told to.",
            labels=["device"],
        )
        for device in sorted(self._daemons.wanted()):
            answer = self._daemons.answer(device) or _NO_KEEPER
            ready.add_metric([device], 1.0 if answer.serves is not None else 0.0)
            ends.add_metric([device], answer.ends)
        return [ready, ends]
