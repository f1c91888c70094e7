"""Tells the claims of a card that their MPS control daemon has ended, and that it is back.

The clients of a daemon die with it, so whoever looks at a pod that failed must find the reason there: an Event on claim and pods,
and `Ready=False` until the daemon serves again.
"""

import logging
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from hami_dra._lib.threads import Group
from hami_dra.api.opaque import Isolation
from hami_dra.core.errors import KubeError, MpsNotReady, NodeStateError
from hami_dra.core.ids import DeviceName
from hami_dra.core.modes import unit_of
from hami_dra.core.mps import Answer
from hami_dra.core.plan import ClaimPlan
from hami_dra.core.record import Phase
from hami_dra.node.ports import ClaimReader, MpsDaemons, NodeFiles
from hami_dra.node.service import ClaimListener
from hami_dra.node.state import ClaimRef, Prepared

__all__ = ["MpsCollector", "MpsWatch"]

_log = logging.getLogger(__name__)

_PERIOD_S = 0.5
_NO_KEEPER = Answer(serves=None, message="hami-dra mps does not run on this node")


class MpsWatch:
    """The daemons, as their claims want to know of them."""

    def __init__(self, *, files: NodeFiles, claims: ClaimReader, listener: ClaimListener, group: Group) -> None:
        """`listener` hears of claims that are not ready any more, and of those that are again."""
        self._ledger = files.ledger
        self._daemons = files.mps
        self._boot = files.boot
        self._claims = claims
        self._listener = listener
        self._group = group
        self._ends: dict[DeviceName, int] = {}
        """How often each had ended when it was last looked at."""
        self._told: dict[DeviceName, set[ClaimRef]] = {}
        """Claims that heard of an end."""

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
            self._told.pop(device, None)
        for device in wanted:
            answer = self._daemons.answer(device) or _NO_KEEPER
            first = device not in self._ends
            again = self._ends.get(device, 0) != answer.ends
            self._ends[device] = answer.ends
            if first and answer.serves is not None:
                # It may have ended under an earlier process of this plugin, which did not live to say that it is back.
                if again:
                    self._told[device] = {_ref(plan) for plan in self._plans(device)}
            elif again or answer is _NO_KEEPER:
                self._ended(device, answer)
            if answer.serves is not None and device in self._told:
                self._back(device)

    def _ended(self, device: DeviceName, answer: Answer) -> None:
        told = self._told.setdefault(device, set())
        for plan in self._plans(device):
            if (ref := _ref(plan)) not in told:
                told.add(ref)
                said = f"the MPS control daemon of {device} has ended, and with it the programs that were its clients"
                why = f": {answer.message}" if answer.message else ""
                self._listener.failed(ref, MpsNotReady(f"claim {plan.namespace}/{plan.name}: {said}{why}"))

    def _back(self, device: DeviceName) -> None:
        told = self._told[device]
        for plan in self._plans(device):
            if _ref(plan) in told:
                claim = self._claims.get(namespace=plan.namespace, name=plan.name)
                self._listener.prepared(Prepared(plan=plan, claim=claim))
        del self._told[device]

    def _plans(self, device: DeviceName) -> Iterator[ClaimPlan]:
        for entry in self._ledger.entries():
            if entry.boot != self._boot or entry.phase is not Phase.COMPLETED:
                continue
            shares = (share.spec for share in entry.plan.shares)
            if any(spec.isolation is Isolation.MPS and unit_of(spec.device) == device for spec in shares):
                yield entry.plan


def _ref(plan: ClaimPlan) -> ClaimRef:
    return ClaimRef(namespace=plan.namespace, name=plan.name, uid=plan.uid)


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
