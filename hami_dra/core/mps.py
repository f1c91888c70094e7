"""What is wanted of a control daemon of MPS, and what is said of it: two small files for each card.

The node plugin writes what it wants, the process that keeps the daemons answers.  Both are files of ours, so decoding is lenient
but for what counts.  The daemon's defaults are those of its largest client: each client has less by its own limits file,
and one that got round its guard has no more than the largest.
Invariant: an answer says `serves` exactly while a daemon runs that was told all of it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from hami_dra.core.ids import GpuUuid
from hami_dra.core.plan import PlannedShare

__all__ = ["Answer", "Wanted", "answer_from_json", "to_json", "wanted_from_json", "wanted_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A daemon for one device."""

    uuid: GpuUuid
    """Of the card, or of the partition."""
    percent: int
    """Of the multiprocessors, at most for a client."""
    memory_bytes: int
    """Of device memory, at most for a client."""

    def suffices(self, other: "Wanted") -> bool:
        """Whether clients of the other one have theirs with this, as when a claim came meanwhile that has more."""
        return self.uuid == other.uuid and self.percent >= other.percent and self.memory_bytes >= other.memory_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How the daemon is."""

    serves: Wanted | None
    """What it was told; None while it takes no clients."""
    ends: int = 0
    """How often it ended without being told to."""
    message: str = ""
    """Why it takes no clients, for people."""


def wanted_of(shares: Iterable[PlannedShare]) -> Wanted | None:
    """What the shares of one device want; None where there is none with MPS."""
    limits = [share.limits for share in shares if share.limits is not None and share.limits.mps_percent]
    if not limits:
        return None
    return Wanted(
        uuid=limits[0].device_uuid,
        percent=max(each.mps_percent for each in limits),
        memory_bytes=max(each.memory_limit_bytes for each in limits),
    )


def to_json(said: Wanted | Answer) -> str:
    """One line of JSON."""
    return json.dumps(asdict(said), separators=(",", ":"))


def wanted_from_json(text: str) -> Wanted | None:
    """What `to_json` wrote; None for anything else."""
    try:
        return _wanted(json.loads(text))
    except (KeyError, TypeError, ValueError):
        return None


def answer_from_json(text: str) -> Answer | None:
    """What `to_json` wrote; None for anything else."""
    try:
        record = json.loads(text)
        serves = record["serves"]
        return Answer(
            serves=None if serves is None else _wanted(serves),
            ends=int(record["ends"]),
            message=str(record["message"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _wanted(record: dict[str, object]) -> Wanted:
    return Wanted(
        uuid=GpuUuid(str(record["uuid"])),
        percent=int(str(record["percent"])),
        memory_bytes=int(str(record["memory_bytes"])),
    )
