"""A fault campaign: random operations of many pods on a real kubelet, random faults in their middle, and a look at what is left.

`faults.plan` says what happens, `faults.strikes` breaks things, `faults.invariants` says what must hold after each heal.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from faults.cluster import Api, Processes
from faults.invariants import complaints, lost_its_claim, unsettled
from faults.look import Eyes
from faults.plan import Operation, Round, Verb
from faults.strikes import Striker

from hacklib.deployment import Site
from hami_dra.api.k8s import JsonObject
from hami_dra.testing.eventually import eventually

__all__ = ["Campaign", "Tally"]

_HEALED_S = 240.0
_LOOK_S = 0.4
_NUDGE_S = 3.0
_UNDER_WAY = 14
"""So many pods may be coming or going before the next operations; more would only queue up in kubelet, and end unborn."""
_STRIDE = 5
"""Operations in a row."""
_STUCK_S = 3.0
"""After so long without room for more, something is broken, and users do not wait for it."""


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    operations: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    """Containers that were to be killed and were not there, or no longer."""
    made_anew: int = 0
    """Pods whose claim kubelet had lost."""
    faults: Counter[str] = field(default_factory=Counter)
    most_pods: int = 0
    slowest_heal_s: float = 0.0
    begun: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        done = ", ".join(f"{number} {verb}" for verb, number in sorted(self.operations.items()))
        struck = ", ".join(f"{number} {fault}" for fault, number in sorted(self.faults.items()))
        return (
            f"{self.operations.total()} operations ({done}; {self.missed} killed nothing) of up to {self.most_pods} pods at once,"
            f" {self.faults.total()} faults ({struck}) in {(time.monotonic() - self.begun) / 60:.1f} minutes; everything agreed"
            f" after each, {self.slowest_heal_s:.0f} s later at most; {self.made_anew} pods made anew, whose claim kubelet lost"
        )


class Campaign:
    """Carries out rounds on node-1 of a site, within its network."""

    def __init__(self, site: Site, *, slots: int, say: Callable[[str], None]) -> None:
        self._site = site
        self._say = say
        self._api = Api(site)
        self._striker = Striker(site, self._api)
        self._processes = Processes(site.cluster.spec.cgroup)
        self._eyes = Eyes(site, api=self._api, processes=self._processes, slots=slots)
        self._wanted: dict[str, Operation] = {}
        """The pods that should run, and how they were made."""
        self.tally = Tally()

    def prepare(self) -> None:
        """What the rounds need."""
        self._api.prepare()

    def play(self, number: int, planned: Round) -> None:
        """One round.

        Raises:
            AssertionError: something did not come to hold after the heal.
        """
        begun = time.monotonic()
        self._striker.look_away()
        self._do(planned.before)
        _let_pass(planned.head_start_s)
        self._striker.strike(planned.fault)
        self._do(planned.during)
        _let_pass(planned.dwell_s)
        self._striker.heal(planned.fault)
        healed = time.monotonic()
        self._settle(number, planned)
        end = time.monotonic()
        self.tally.faults[planned.fault] += 1
        self.tally.slowest_heal_s = max(self.tally.slowest_heal_s, end - healed)
        self._say(
            f"round {number}: {planned.operations} operations, {planned.fault}, {len(planned.wanted)} pods,"
            f" whole {end - healed:.1f} s later, {end - begun:.0f} s in all; {self.tally.operations.total()} so far"
        )

    def _do(self, operations: tuple[Operation, ...]) -> None:
        for index, operation in enumerate(operations):
            if index % _STRIDE == 0:
                self._wait_for_room()
            if operation.verb is Verb.BOUNCE:
                self._bounce(operation.pod)
            else:
                self._api.do(operation)
            if operation.verb is Verb.RUN:
                self._wanted[operation.pod] = operation
                self.tally.most_pods = max(self.tally.most_pods, len(self._wanted))
            elif operation.verb in {Verb.END, Verb.DROP, Verb.EVICT}:
                del self._wanted[operation.pod]
            self.tally.operations[operation.verb] += 1

    def _bounce(self, name: str) -> None:
        pod = self._api.pods().get(name)
        if pod is None or not self._processes.kill_one(pod["metadata"]["uid"]):
            self.tally.missed += 1

    def _wait_for_room(self) -> None:
        def room() -> bool:
            waited_s = time.monotonic() - begun
            return waited_s > _STUCK_S or len(unsettled(self._wanted, self._api.pods())) < _UNDER_WAY

        begun = time.monotonic()
        eventually(room, every_s=0.2, within_s=_HEALED_S)

    def _settle(self, number: int, planned: Round) -> None:
        """Wait until everything agrees, and have kubelet look at pods that do not run yet."""
        nudges = _Nudges(self._api)
        wrong: list[str] = []

        def agrees() -> bool:
            pods = self._api.pods()
            wrong[:] = unsettled(planned.wanted, pods)
            self._make_anew(pods)
            if wrong:
                nudges.give({name for name in pods if any(f"pod {name} " in line for line in wrong)})
            else:
                wrong[:] = complaints(self._eyes.look(planned.wanted, pods))
            return not wrong

        def story() -> str:
            return "\n".join([f"round {number} ({planned.fault}):", *wrong, self._story(wrong)])

        eventually(agrees, within_s=_HEALED_S, every_s=_LOOK_S, detail=story)

    def _make_anew(self, pods: Mapping[str, JsonObject]) -> None:
        """Do what an administrator has to do for pods whose containers kubelet can never start again.

        Kubelet (1.34 to 1.36) takes a claim from its only living user when another pod of the claim ends twice, as one does whose
        end failed half way.  The share stays as long as the container; a container that died meanwhile stays dead.
        """
        for name in self._wanted:
            if name in pods and lost_its_claim(pods[name]):
                self._api.make_anew(self._wanted[name])
                self.tally.made_anew += 1

    def _story(self, wrong: list[str]) -> str:
        """What is known about pods of which something is wrong, and what the product's own pods say."""
        pods = [name for name in self._api.pods() if any(f"pod {name} " in line for line in wrong)]
        return "\n".join(
            [*(self._site.kubectl.run("describe", "pod", name) for name in pods), self._site.system_story()]
        )


class _Nudges:
    """After a prepare that failed, kubelet lets more than a minute pass before the next, unless the pod changes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._number = 0
        self._last = time.monotonic()

    def give(self, pods: Collection[str]) -> None:
        """Change the pods, now and then."""
        if time.monotonic() > self._last + _NUDGE_S:
            self._number += 1
            for pod in sorted(pods):
                self._api.nudge(pod, number=self._number)
            self._last = time.monotonic()


def _let_pass(seconds: float) -> None:
    """The plan's moment of a fault: chance decides when it strikes, not a condition."""
    threading.Event().wait(seconds)
