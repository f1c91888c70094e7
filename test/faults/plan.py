"""What a campaign does, drawn from a seed before anything is done.

Pure: the same seed gives the same rounds, whatever the cluster makes of them.  A round is a batch of operations, a fault, more
operations while it lasts, and its end; `faults.campaign` carries it out and looks at what is left.  The plan knows which pods are
wanted, not which run: an end may well come before the pod has begun.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["SHARED_CLAIMS", "Claim", "Fault", "Operation", "Round", "Verb", "rounds"]

SHARED_CLAIMS = 2
"""Claims that outlive their pods, and that several pods use at once."""


class Verb(StrEnum):
    """What happens to a pod."""

    RUN = "run"
    END = "end"
    """Deleted with a second of grace."""
    DROP = "drop"
    """Deleted without asking its node: another pod may get its place while its containers still live."""
    BOUNCE = "bounce"
    """One of its processes is killed; kubelet starts it again, with the CDI spec of before."""


class Claim(StrEnum):
    """Whose claim a pod uses."""

    OWN = "own"
    DOUBLE = "double"
    """Its own, with two shares."""
    SHARED = "shared"


class Fault(StrEnum):
    """What breaks."""

    PLUGIN = "node plugin killed"
    UPDATE = "node plugin replaced while it works"
    KUBELET = "kubelet killed"
    CONTAINERD = "containerd killed"
    API_GONE = "API server killed"
    API_DEAF = "API server frozen"
    DISK = "disk of the state full"

    @property
    def silences_api(self) -> bool:
        """Whether nobody can be asked for anything while it lasts."""
        return self in {Fault.API_GONE, Fault.API_DEAF}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a user, or fate, does to one pod."""

    verb: Verb
    pod: str
    claim: Claim = Claim.OWN
    shared: int = 0
    """Which of the shared claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A batch, a fault in its middle, and the end of it."""

    before: tuple[Operation, ...]
    fault: Fault
    head_start_s: float
    """From the last operation of `before` to the fault."""
    during: tuple[Operation, ...]
    dwell_s: float
    """From the last operation of `during` to the end of the fault."""
    wanted: frozenset[str]
    """The pods that must run when all is healed."""

    @property
    def operations(self) -> int:
        """How many there are."""
        return len(self.before) + len(self.during)


class _Users:
    """Draws operations that make sense after each other."""

    def __init__(self, dice: random.Random, *, pods: int) -> None:
        self._dice = dice
        self._pods = pods
        self._number = 0
        self._bounced: set[str] = set()
        self.wanted: list[str] = []

    def draw(self, *, drops: bool) -> Operation:
        roll = self._dice.random()
        calm = [pod for pod in self.wanted if pod not in self._bounced]
        if calm and roll < 0.1:
            pod = self._dice.choice(calm)
            self._bounced.add(pod)  # a second time kubelet would let it wait
            return Operation(verb=Verb.BOUNCE, pod=pod)
        full = len(self.wanted) / self._pods
        if self.wanted and (roll < 0.1 + 0.5 * full or full >= 1.0):
            pod = self.wanted.pop(self._dice.randrange(len(self.wanted)))
            return Operation(verb=Verb.DROP if drops and self._dice.random() < 0.3 else Verb.END, pod=pod)
        return self._run()

    def _run(self) -> Operation:
        self._number += 1
        pod = f"pod-{self._number}"
        self.wanted.append(pod)
        (claim,) = self._dice.choices(list(Claim), weights=[6, 2, 2])
        return Operation(verb=Verb.RUN, pod=pod, claim=claim, shared=self._dice.randrange(SHARED_CLAIMS))


def rounds(
    seed: int, *, operations: int, pods: int, batch: int, faults: Sequence[Fault] = tuple(Fault), orphans: bool = True
) -> Iterator[Round]:
    """Rounds with that many operations in all; every fault comes once before one comes again.

    Args:
        seed: of everything.
        operations: how many; the last round has fewer.
        pods: most that are wanted at once.
        batch: operations of a round.
        faults: to choose from.
        orphans: whether pods may be dropped while nobody on the node can hear of it; kubelet finds their claims after a minute.
    """
    dice = random.Random(seed)  # noqa: S311 - a plan, not a secret
    users = _Users(dice, pods=pods)
    deck: list[Fault] = []
    while operations > 0:
        deck = deck or dice.sample(faults, len(faults))
        fault = deck.pop()
        number = min(batch, operations)
        operations -= number
        early = number if fault.silences_api else dice.randint(number // 3, number)
        drops = orphans or fault in {Fault.PLUGIN, Fault.UPDATE, Fault.DISK}
        before = tuple(users.draw(drops=drops) for _ in range(early))
        during = tuple(users.draw(drops=drops) for _ in range(number - early))
        yield Round(
            before=before,
            fault=fault,
            head_start_s=dice.uniform(0.0, 1.5),
            during=during,
            dwell_s=dice.uniform(0.5, 3.0),
            wanted=frozenset(users.wanted),
        )
