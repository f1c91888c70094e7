"""Has the kernel hold pods to their shares, on cards whose shares it holds.

A cap is on a pod, and its claims come and go one by one: each time it is what the ledger says that the pod has.  Two claims
of one pod take turns, so that the last one to write has seen both.
"""

from hami_dra.core.caps import caps_of
from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import ClaimUid, PodUid
from hami_dra.core.plan import ClaimPlan
from hami_dra.node.ports import Ledger, Locks, PodCaps

__all__ = ["KernelCaps"]


class KernelCaps:
    """Caps for the claims of a ledger."""

    def __init__(self, *, ledger: Ledger, locks: Locks, boot: str, pods: PodCaps) -> None:
        """Caps for the claims of that boot are put on `pods`."""
        self._ledger = ledger
        self._locks = locks
        self._boot = boot
        self._pods = pods

    def hold(self, plan: ClaimPlan) -> None:
        """Cap the pods of a claim whose row is written; a claim that the kernel does not hold has none.

        Raises:
            NodeStateError: a pod cannot be held.
        """
        for pod in plan.pods:
            with self._locks.hold(_turn(pod)):
                if not self._pods.cap(pod, self._caps(pod, but=None)):
                    raise NodeStateError(
                        f"claim {plan.namespace}/{plan.name}: pod {pod} has no cgroup in which the kernel could hold it"
                        " to its share: is cgroup v2 mounted, and does kubelet make a cgroup for each pod (cgroupsPerQOS)?"
                    )

    def let_go(self, uid: ClaimUid) -> None:
        """Take a claim's part off the caps of its pods, before its row goes; pods that are gone need none.

        Raises:
            NodeStateError: the kernel refused.
        """
        entry = self._ledger.get(uid)
        if entry is None or entry.boot != self._boot:
            return
        regions = {share.memory_region for share in entry.plan.shares if share.memory_region is not None}
        for pod in entry.plan.pods:
            with self._locks.hold(_turn(pod)):
                caps = self._caps(pod, but=uid)
                self._pods.cap(pod, {region: caps.get(region) for region in regions})

    def _caps(self, pod: PodUid, *, but: ClaimUid | None) -> dict[str, int]:
        entries = self._ledger.entries()
        return caps_of(pod, [entry.plan for entry in entries if entry.boot == self._boot and entry.plan.uid != but])


def _turn(pod: PodUid) -> ClaimUid:
    """A lock that no claim has: UIDs have no blank."""
    return ClaimUid(f"pod {pod}")
