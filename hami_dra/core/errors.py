"""Everything that can go wrong, as one tree.

    HamiDraError
    ├── UserError                    somebody wrote something that cannot work; a retry does not help
    │   └── InvalidConfig
    ├── DeviceError                  the node and the allocation do not fit
    │   ├── UnknownDevice
    │   ├── CardNotHealth
    │   ├── CapacityExceeded
    │   ├── PartitionRefused
    │   ├── IsolationConflict
    │   ├── MpsNotReady
    │   └── DeviceLost
    ├── ClaimError                   the claim is not what kubelet asked about
    │   ├── ClaimChanged
    │   └── ClaimNotAllocated
    ├── NodeStateError               files of this node cannot be read or written
    │   └── LedgerCorrupt
    ├── DriverError                  the vendor's library or driver root does not work
    │   └── DriverUnloaded
    └── KubeError                    the API server said no, or nothing
        ├── ApiUnavailable
        ├── Conflict
        ├── NotFound
        ├── Forbidden
        ├── Invalid
        └── Gone

Every class has a `reason` (CamelCase, the list of the design's section 9: the same word in Events, conditions, logs and
metrics) and says whether a retry of the same call can help.  Adapters translate their library's errors at the edge with
`raise … from`; services catch only what is in this tree.
"""

from typing import ClassVar

__all__ = [
    "ApiUnavailable",
    "CapacityExceeded",
    "CardNotHealth",
    "ClaimChanged",
    "ClaimError",
    "ClaimNotAllocated",
    "Conflict",
    "DeviceError",
    "DeviceLost",
    "DriverError",
    "DriverUnloaded",
    "Forbidden",
    "Gone",
    "HamiDraError",
    "Invalid",
    "InvalidConfig",
    "IsolationConflict",
    "KubeError",
    "LedgerCorrupt",
    "MpsNotReady",
    "NodeStateError",
    "NotFound",
    "PartitionRefused",
    "UnknownDevice",
    "UserError",
]


class HamiDraError(Exception):
    """Root of the tree; `str()` is the message for people, without the reason."""

    reason: ClassVar[str] = "Internal"
    retryable: ClassVar[bool] = True

    def explain(self) -> str:
        """The message with its reason at the end, as Events, conditions and kubelet's answers show it."""
        return f"{self} ({self.reason})"


class UserError(HamiDraError):
    """Somebody wrote something that cannot work."""

    reason = "InvalidConfig"
    retryable = False


class InvalidConfig(UserError):
    """An opaque configuration is malformed, or asks for what cannot be combined."""


class DeviceError(HamiDraError):
    """The node and the allocation do not fit."""

    reason = "PrepareFailed"


class UnknownDevice(DeviceError):
    """The allocation names a device that this node does not have."""

    reason = "UnknownDevice"


class CapacityExceeded(DeviceError):
    """The share would take a device above what it has, given the shares already prepared."""

    reason = "CapacityExceeded"


class CardNotHealth(DeviceError):
    """No program could run on the device: it is lost, or dead until it is reset."""

    reason = "CardNotHealth"


class PartitionRefused(DeviceError):
    """The card cannot be cut as it was allocated, or not now: its mode, its processes or another instance are in the way."""

    reason = "PartitionRefused"


class IsolationConflict(DeviceError):
    """Other shares of the card are isolated in another way, and a card can be used in one way at a time."""

    reason = "IsolationConflict"


class MpsNotReady(DeviceError):
    """The control daemon of MPS that a share needs takes no clients: it was not started, or it ended."""

    reason = "MpsNotReady"


class DeviceLost(DeviceError):
    """The device was here and is gone."""

    reason = "DeviceLost"


class ClaimError(HamiDraError):
    """The claim is not what kubelet asked about."""

    reason = "ClaimChanged"


class ClaimChanged(ClaimError):
    """The claim was deleted, replaced, or allocated otherwise than what is prepared."""


class ClaimNotAllocated(ClaimError):
    """The claim has no allocation for this driver (yet)."""

    reason = "ClaimNotAllocated"


class NodeStateError(HamiDraError):
    """A file of this node cannot be read or written: full disk, read-only file system, wrong mode."""

    reason = "PrepareFailed"


class LedgerCorrupt(NodeStateError):
    """The ledger cannot be read as what it must be."""

    reason = "LedgerCorrupt"


class DriverError(HamiDraError):
    """The vendor's library or driver root does not work."""

    reason = "DriverNotReady"


class DriverUnloaded(DriverError):
    """The kernel driver is not loaded, or another one than the library is for: when it is back, it was loaded anew."""


class KubeError(HamiDraError):
    """The API server refused, or could not be reached."""

    reason = "KubernetesApi"


class ApiUnavailable(KubeError):
    """No answer, 429 or 5xx; `retry_after_s` is what the server asked for, if it did."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Conflict(KubeError):
    """409: somebody wrote first, or the object exists."""


class NotFound(KubeError):
    """404; `of_object` where the server knows such objects and has none of that name, else it does not serve them at all."""

    retryable = False

    def __init__(self, message: str, *, of_object: bool = True) -> None:
        super().__init__(message)
        self.of_object = of_object


class Forbidden(KubeError):
    """401 or 403: RBAC or an admission policy said no."""


class Invalid(KubeError):
    """400 or 422: the API server does not accept the object."""

    retryable = False


class Gone(KubeError):
    """410: the resource version is too old; list again."""
