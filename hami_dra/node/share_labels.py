"""Whose a share is, as labels of metrics.

A share is one series, whoever uses it: `pod` and `container` are empty where several do, and where nobody can tell.
"""

from collections.abc import Callable
from typing import Final

from hami_dra.core.ids import ClaimUid, ShareKey
from hami_dra.core.plan import ClaimPlan, PlannedShare

__all__ = ["SHARE_LABELS", "ShareLabels"]

SHARE_LABELS: Final = ("namespace", "pod", "container", "claim", "request", "device", "share")


class ShareLabels:
    """Call it for the values of `SHARE_LABELS`.  For one thread."""

    def __init__(
        self,
        *,
        pods: Callable[[ClaimUid], tuple[str, ...]],
        container: Callable[[ClaimUid, ShareKey], str] | None,
    ) -> None:
        """Ask these.

        Args:
            pods: names of the pods that use a claim, as far as they are known.
            container: name of the one container that uses a share, empty where there is none; None: nobody can tell.
        """
        self._pods = pods
        self._container = container

    def __call__(self, plan: ClaimPlan, share: PlannedShare) -> tuple[str, ...]:
        """Of a share of a claim."""
        pods, spec = self._pods(plan.uid), share.spec
        pod = pods[0] if len(pods) == 1 else ""
        container = "" if self._container is None else self._container(plan.uid, spec.key)
        return plan.namespace, pod, container, plan.name, spec.base_request, spec.device, spec.key
