"""What one share of one device means: the word that resolving, planning and recording have in common."""

from dataclasses import dataclass

from hami_dra.api.opaque import Interval, Isolation, Priority, Qos
from hami_dra.core.ids import DeviceName, PoolName, RequestName, ShareId, ShareKey

__all__ = ["ShareSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSpec:
    """One share of one device, as the claim means it."""

    request: RequestName
    pool: PoolName
    device: DeviceName
    share_id: ShareId | None
    key: ShareKey
    admin_access: bool
    memory_bytes: int | None
    """Device memory of the share; None: the whole device."""
    cores_percent: int
    """Percent of one device's compute; 0: none promised and none enforced."""
    isolation: Isolation
    qos: Qos
    priority: Priority
    oversubscription_bytes: int = 0
    """Managed memory allowed beyond the share's memory."""
    limit_memory_bytes: int | None = None
    """Of a fixed share: so much of its memory; None: all of it."""
    limit_cores_percent: int | None = None
    """Of a fixed share: so much of its cores; None: all of them."""
    device_metadata: bool = False
    """Whether its containers find a file that describes it (KEP-5304)."""
    interval: Interval | None = None
    """How long turns on the card last; None: turns are no business of this share."""

    @property
    def base_request(self) -> str:
        """The name that a pod's containers refer to: `req` of `req/sub`."""
        return self.request.partition("/")[0]
