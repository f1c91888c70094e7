"""Tells claims that what their isolation needs of a device is not there any more, and that it is there again.

An Event on claim and pods, and `Ready=False` until then: whoever looks at a pod that does not do what it should must find the
reason there.  Each claim hears of it once.
"""

from collections.abc import Callable, Iterator

from hami_dra.api.opaque import Isolation
from hami_dra.core.errors import HamiDraError
from hami_dra.core.ids import DeviceName
from hami_dra.core.modes import unit_of
from hami_dra.core.plan import ClaimPlan
from hami_dra.core.record import Phase
from hami_dra.node.ports import ClaimReader, NodeFiles
from hami_dra.node.service import ClaimListener
from hami_dra.node.state import ClaimRef, Prepared

__all__ = ["ClaimNews"]


class ClaimNews:
    """What the claims of one isolation have heard, by device."""

    def __init__(self, *, files: NodeFiles, claims: ClaimReader, listener: ClaimListener, isolation: Isolation) -> None:
        """`listener` hears of claims that are not ready any more, and of those that are again."""
        self._ledger = files.ledger
        self._boot = files.boot
        self._claims = claims
        self._listener = listener
        self._isolation = isolation
        self._told: dict[DeviceName, set[ClaimRef]] = {}
        """Claims that heard that something is not there."""

    def bad(self, device: DeviceName, why: Callable[[str], HamiDraError]) -> None:
        """Something of the device is not there; `why` says it of a claim, which it is given in words.

        Raises:
            NodeStateError: the ledger cannot be read.
        """
        told = self._told.setdefault(device, set())
        for plan in self._plans(device):
            if (ref := _ref(plan)) not in told:
                told.add(ref)
                self._listener.failed(ref, why(f"claim {plan.namespace}/{plan.name}"))

    def assume_bad(self, device: DeviceName) -> None:
        """Its claims may have heard so from an earlier process, which did not live to take it back.

        Raises:
            NodeStateError: the ledger cannot be read.
        """
        self._told[device] = {_ref(plan) for plan in self._plans(device)}

    def good(self, device: DeviceName) -> None:
        """All is there; claims that heard otherwise hear of it.

        Raises:
            NodeStateError: the ledger cannot be read.
            KubeError: a claim cannot be read; nobody counts as told.
        """
        told = self._told.get(device)
        if told is None:
            return
        for plan in self._plans(device):
            if _ref(plan) in told:
                claim = self._claims.get(namespace=plan.namespace, name=plan.name)
                self._listener.prepared(Prepared(plan=plan, claim=claim))
        del self._told[device]

    def forget(self, device: DeviceName) -> None:
        """Nobody uses it in this way any more."""
        self._told.pop(device, None)

    def _plans(self, device: DeviceName) -> Iterator[ClaimPlan]:
        for entry in self._ledger.entries():
            if entry.boot != self._boot or entry.phase is not Phase.COMPLETED:
                continue
            shares = (share.spec for share in entry.plan.shares)
            if any(spec.isolation is self._isolation and unit_of(spec.device) == device for spec in shares):
                yield entry.plan


def _ref(plan: ClaimPlan) -> ClaimRef:
    return ClaimRef(namespace=plan.namespace, name=plan.name, uid=plan.uid)
