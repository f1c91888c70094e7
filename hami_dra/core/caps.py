"""How much of each card's memory the kernel is to allow a pod, given all claims that are prepared on the node.

Pure; `node.caps` has it done.  A pod with several shares of one card may hold their sum, whichever of its containers takes it.
"""

from collections.abc import Iterable

from hami_dra.core.ids import PodUid
from hami_dra.core.plan import ClaimPlan

__all__ = ["caps_of"]


def caps_of(pod: PodUid, plans: Iterable[ClaimPlan]) -> dict[str, int]:
    """Bytes by region."""
    caps: dict[str, int] = {}
    for plan in plans:
        for share in plan.shares:
            if pod in plan.pods and share.memory_region is not None:
                caps[share.memory_region] = caps.get(share.memory_region, 0) + share.memory_bytes
    return caps
