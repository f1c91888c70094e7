"""What NVIDIA's XIDs mean for work on a card.

After NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html): where it says to restart the application
or to ignore the XID, the card is fine; where it says to reset the GPU, nothing new goes there; where no application can run until
then, pods are evicted.  A context switch timeout (109) counts as the application's, as in NVIDIA's own drivers for Kubernetes:
any tenant can bring it about.  What an XID of the newer NVLink (144 to 150) asks for depends on bits that NVML does not pass on;
the driver's own recovery action, which is read beside the events, tells.  A test holds docs/health.md to this table.
"""

from typing import Final

from hami_dra.core.device_health import Effect, Ends, Fault

__all__ = ["OF_CARD", "TABLE", "xid_fault"]

_APPLICATION = (Effect.NONE, Ends.QUIET, "the program that ran into it has to be restarted, the card is fine")
_TOLD = (Effect.NONE, Ends.QUIET, "nothing has to be done")
_CONVENIENT = (Effect.NONE, Ends.RESET, "programs can go on; reset the card when convenient")
_RESET = (Effect.NO_SCHEDULE, Ends.RESET, "drain and reset the card")
_DEAD = (Effect.NO_EXECUTE, Ends.RESET, "no program can run until the card is reset")
_OFF = (Effect.NO_EXECUTE, Ends.ANSWER, "restart the node, and have the card seen to if it happens again")

_Meaning = tuple[Effect, Ends, str]

TABLE: Final[dict[int, tuple[str, _Meaning]]] = {
    8: ("GPU stopped processing", _APPLICATION),
    11: ("invalid push buffer stream", _APPLICATION),
    13: ("graphics engine exception", _APPLICATION),
    25: ("illegal push buffer stream", _APPLICATION),
    31: ("GPU memory page fault", _APPLICATION),
    32: ("corrupted push buffer stream", _APPLICATION),
    37: ("driver firmware error", _TOLD),
    38: ("driver firmware error", _TOLD),
    39: ("copy engine exception", _APPLICATION),
    40: ("copy engine exception", _APPLICATION),
    41: ("copy engine exception", _APPLICATION),
    43: ("GPU stopped processing", _APPLICATION),
    44: ("fault during context switch", _TOLD),
    45: ("preemptive cleanup after a program's end", _APPLICATION),
    46: ("GPU stopped processing", _RESET),
    48: ("double-bit ECC error", _RESET),
    54: ("auxiliary power is not connected", _RESET),
    60: ("video processor exception", _APPLICATION),
    62: ("internal micro-controller halt", _RESET),
    63: ("memory rows are remapped", _CONVENIENT),
    64: ("memory rows could not be remapped", _RESET),
    66: ("illegal access by the driver", _TOLD),
    67: ("illegal access by the driver", _TOLD),
    68: ("video decoder exception", _APPLICATION),
    69: ("graphics engine class error", _APPLICATION),
    74: ("NVLink error", _RESET),
    79: ("GPU has fallen off the bus", _OFF),
    80: ("corrupted data sent to the GPU", _APPLICATION),
    92: ("high rate of single-bit ECC errors", _TOLD),
    93: ("InfoROM wear limit", _TOLD),
    94: ("contained memory error", _CONVENIENT),
    95: ("uncontained memory error", _DEAD),
    109: ("context switch timeout", _APPLICATION),
    110: ("security fault", _RESET),
    119: ("GSP does not answer", _RESET),
    120: ("GSP error", _RESET),
    121: ("corrected errors of the link to the CPU", _CONVENIENT),
    136: ("NVLink training failed", _RESET),
    137: ("illegal NVLink access", _APPLICATION),
    140: ("unrecovered ECC error", _RESET),
    141: ("fast path error", _TOLD),
    143: ("GPU initialisation error", _RESET),
    154: ("recovery action changed", _TOLD),
    155: ("NVLink went down", _RESET),
    156: ("a resource is retired", _RESET),
    157: ("a resource could not be retired", _TOLD),
    158: ("fatal timeout", _RESET),
}
"""By code: what it is, and what it means."""

OF_CARD: Final = frozenset({54, 62, 74, 79, 92, 93, 119, 120, 121, 136, 143, 155})
"""What concerns parts that all MIG instances of a card share (bus, power, links, firmware), whatever instance was there."""

_UNKNOWN = ("not in the table of this release", _TOLD)


def xid_fault(code: int) -> Fault:
    """The fault that an XID is; one that nobody knows is told under the value `other`, and keeps nobody away."""
    what, (effect, ends, advice) = TABLE.get(code, _UNKNOWN)
    return Fault(
        key="xid",
        value=str(code) if code in TABLE else "other",
        effect=effect,
        ends=ends,
        message=f"XID {code}, {what}: {advice}",
    )
