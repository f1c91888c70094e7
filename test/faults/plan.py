"""What happens in a fault campaign: a reproducible list of rounds, drawn from a seed.

A round is some operations, a fault in their midst, more operations, and the end of the fault.  Users do not wait for what they
asked for: an end may well come before the pod has begun.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Claim", "Fault", "Operation", "Round", "Verb", "rounds"]

_NAMED_CLAIMS = 4
"""Claims with a name of their own, about so many at once."""
_CLAIMS = 0.12
"""The part of the operations that is about claims alone."""
_BOUNCES = 0.25
_ENDS = 0.58
"""The part of the pods' comings and goings that are goings, where all places are taken."""
_ORPHANED = 0.1
"""In how many of the rounds whose kubelet is away pods are dropped meanwhile, where orphans are allowed."""


class Verb(StrEnum):
    """What happens to a pod or to a claim."""

    RUN = "pod created"
    END = "pod deleted"
    """With a second of grace."""
    DROP = "pod force-deleted"
    """Without asking its node: another pod may get its place while its containers still live."""
    EVICT = "pod evicted"
    BOUNCE = "container killed"
    """One of a pod's; kubelet starts it again, with the CDI spec of before."""
    CLAIM = "claim created"
    """One that outlives its pods, and that several pods use at once."""
    UNCLAIM = "claim deleted"
    """Maybe while running pods use it: then it goes with the last of them."""


class Claim(StrEnum):
    """What claim a pod uses."""

    OWN = "own"
    DOUBLE = "double"
    """Its own, with two shares."""
    MONITOR = "monitor"
    """Its own, with admin access: it sees a card and consumes nothing."""
    NAMED = "named"
    """One that was created before and may have other users."""


class Fault(StrEnum):
    """What breaks."""

    PLUGIN = "node plugin killed"
    UPDATE = "node plugin replaced while it works"
    KUBELET = "kubelet killed"
    CONTAINERD = "containerd killed"
    REBOOT = "node rebooted"
    API_GONE = "API server killed"
    API_DEAF = "API server frozen"
    DISK = "disk of the state full"
    STATE_READ_ONLY = "state read-only"
    CDI_CLOSED = "CDI directory not writable"
    CDI_WIPED = "CDI directory wiped"
    LEDGER_LOST = "ledger lost"
    LEDGER_OLD = "ledger put back"
    CLOCK_OFF = "clock an hour off"
    """The node plugin's, ahead and then behind.  That disturbs nothing, so it stays so under the faults that follow."""
    CLOCK_BEHIND = "node plugin started with the clock a day behind"
    """The API server's certificate is not valid yet."""
    CLOCK_AHEAD = "clock ten years ahead"
    """The certificate is valid no longer.  After the heal the clock is a day ahead."""

    @property
    def silences_api(self) -> bool:
        """Whether nobody can be asked for anything while it lasts."""
        return self in {Fault.API_GONE, Fault.API_DEAF}

    @property
    def forgets_pods(self) -> bool:
        """Whether kubelet starts anew: of pods that went meanwhile it finds the claims after a minute."""
        return self in {Fault.KUBELET, Fault.REBOOT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a user, or fate, does to one pod or claim."""

    verb: Verb
    pod: str = ""
    """None where a claim is created or deleted."""
    claim: Claim = Claim.OWN
    named: str = ""
    """Which of the claims with a name."""
    crowded: bool = False
    """Whether a sidecar and a second container share the pod's claim."""


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
        self._calm: set[str] = set()
        """The pods that ran when the round began, and were not bounced in it."""
        self._sharers: set[str] = set()
        """Pods with a named claim that may end.  Not those that may not have been prepared yet, nor while kubelet starts anew: it
        then unprepares the claim under its only other user, whose containers it cannot start again (1.34 to 1.36 count the users
        of a claim without looking who they are)."""
        self._young: set[str] = set()
        """Claims for which a pod may not have a place yet."""
        self._claims: list[str] = []
        self._named: dict[str, str] = {}
        """The named claim of a pod."""
        self._resting: set[str] = set()
        """Claims of pods that were dropped: kubelet would give the next pod what the dropped one had, though another share was
        allocated meanwhile (it skips the prepare while it still knows the claim)."""
        self.wanted: list[str] = []

    def begin(self, *, forgetful: bool) -> None:
        """Another round: what was wanted so far runs.

        Args:
            forgetful: whether kubelet will start anew in it.
        """
        self._calm = set(self.wanted)
        self._sharers = set() if forgetful else self._calm & set(self._named)
        self._young.clear()
        self._resting.clear()

    def draw(self, *, drops: bool) -> Operation:
        """The next operation.

        Args:
            drops: whether pods may be dropped.
        """
        roll = self._dice.random()
        if roll < _CLAIMS:
            return self._claim()
        if roll < _CLAIMS + _BOUNCES and (calm := [pod for pod in self.wanted if pod in self._calm]):
            pod = self._dice.choice(calm)
            self._calm.remove(pod)  # a second time kubelet would let it wait
            return Operation(verb=Verb.BOUNCE, pod=pod)
        full = len(self.wanted) / self._pods
        ready = [pod for pod in self.wanted if pod not in self._named or pod in self._sharers]
        if ready and (full >= 1.0 or self._dice.random() < _ENDS * full):
            return self._end(self._dice.choice(ready), drops=drops)
        return self._run() if full < 1.0 else self._claim()

    def _claim(self) -> Operation:
        idle = [claim for claim in self._claims if claim not in self._young]
        if idle and len(self._claims) > self._dice.randrange(2 * _NAMED_CLAIMS):
            claim = self._dice.choice(idle)
            self._claims.remove(claim)
            return Operation(verb=Verb.UNCLAIM, named=claim)
        claim = f"claim-{self._next()}"
        self._claims.append(claim)
        return Operation(verb=Verb.CLAIM, named=claim)

    def _end(self, pod: str, *, drops: bool) -> Operation:
        self.wanted.remove(pod)
        self._sharers.discard(pod)
        verb = self._dice.choices([Verb.END, Verb.EVICT, Verb.DROP], weights=[5, 2, 3 if drops else 0])[0]
        named = self._named.pop(pod, None)
        if verb is Verb.DROP and named:
            self._resting.add(named)
        return Operation(verb=verb, pod=pod)

    def _run(self) -> Operation:
        pod = f"pod-{self._next()}"
        self.wanted.append(pod)
        ready = [claim for claim in self._claims if claim not in self._resting]
        (claim,) = self._dice.choices(list(Claim), weights=[6, 2, 1, 3 if ready else 0])
        named = self._dice.choice(ready) if claim is Claim.NAMED else ""
        if named:
            self._named[pod] = named
            self._young.add(named)
        return Operation(verb=Verb.RUN, pod=pod, claim=claim, named=named, crowded=self._dice.random() < 0.15)

    def _next(self) -> int:
        self._number += 1
        return self._number


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
        orphans: whether pods may be dropped while their kubelet is away; it finds their claims after a minute.
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
        drops = not fault.forgets_pods or (orphans and dice.random() < _ORPHANED)
        users.begin(forgetful=fault.forgets_pods)
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
