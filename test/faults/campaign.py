"""A fault campaign: random operations of many pods on a real kubelet, random faults in their middle, and a look at what is left.

`faults.plan` says what happens, `faults.strikes` breaks things, `faults.invariants` says what must hold after each heal.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.support import NodeFiles
from faults.cluster import Api, Processes
from faults.invariants import Snapshot, complaints
from faults.plan import Operation, Round, Verb
from faults.strikes import Striker

from hacklib.deployment import Site

__all__ = ["SLOTS", "Campaign", "Tally"]

SLOTS = 64
_HEALED_S = 240.0
_NUDGE_S = 3.0
_READ_RECORDS = """
import json, sqlite3, sys
ledger = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(json.dumps([json.loads(record) for (record,) in ledger.execute("SELECT record FROM claims")]))
"""


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    operations: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    most_pods: int = 0
    slowest_heal_s: float = 0.0

    def __str__(self) -> str:
        done = ", ".join(f"{number} {verb}" for verb, number in sorted(self.operations.items()))
        struck = ", ".join(f"{number} {fault}" for fault, number in sorted(self.faults.items()))
        return (
            f"{self.operations.total()} operations ({done}) of up to {self.most_pods} pods at once, {self.faults.total()} faults"
            f" ({struck}); everything agreed after each, {self.slowest_heal_s:.0f} s later at most"
        )


class Campaign:
    """Carries out rounds on node-1 of a site, within its network."""

    def __init__(self, site: Site, *, say: Callable[[str], None]) -> None:
        self._site = site
        self._say = say
        self._api = Api(site)
        self._striker = Striker(site, self._api)
        self._files = NodeFiles(site, node=1)
        self._processes = Processes(site.cluster.spec.cgroup)
        self._card_bytes = site.cards(1)[0].memory_bytes
        self.tally = Tally()

    def prepare(self) -> None:
        """What the rounds need."""
        self._api.prepare()

    def play(self, number: int, planned: Round) -> None:
        """One round.

        Raises:
            AssertionError: something did not come to hold after the heal.
        """
        self._do(planned.before)
        time.sleep(planned.head_start_s)
        self._striker.strike(planned.fault)
        self._do(planned.during)
        time.sleep(planned.dwell_s)
        self._striker.heal(planned.fault)
        begun = time.monotonic()
        self._settle(number, planned)
        took_s = time.monotonic() - begun
        self.tally.faults[planned.fault] += 1
        self.tally.most_pods = max(self.tally.most_pods, len(planned.wanted))
        self.tally.slowest_heal_s = max(self.tally.slowest_heal_s, took_s)
        what = f"{planned.operations} operations, {planned.fault}, {len(planned.wanted)} pods"
        self._say(f"round {number}: {what}, whole {took_s:.1f} s later")

    def _do(self, operations: tuple[Operation, ...]) -> None:
        for operation in operations:
            if operation.verb is Verb.BOUNCE:
                pod = self._api.pods().get(operation.pod)
                if pod is not None:
                    self._processes.kill_one(pod["metadata"]["uid"])
            else:
                self._api.do(operation)
            self.tally.operations[operation.verb] += 1

    def _settle(self, number: int, planned: Round) -> None:
        """Wait until everything agrees, and have kubelet look at pods that do not run yet."""
        end = time.monotonic() + _HEALED_S
        nudge_at = time.monotonic() + _NUDGE_S
        nudges = 0
        while wrong := complaints(seen := self._look(planned)):
            if time.monotonic() > end:
                raise AssertionError("\n".join([f"round {number} ({planned.fault}):", *wrong, self._story(wrong)]))
            if time.monotonic() > nudge_at:
                nudges += 1
                for name in seen.wanted:
                    if f"pod {name} does not run" in wrong:
                        self._api.nudge(name, number=nudges)
                nudge_at = time.monotonic() + _NUDGE_S
            time.sleep(0.3)

    def _story(self, wrong: list[str]) -> str:
        """What is known about pods of which something is wrong, and what the product's own pods say."""
        pods = [name for name in self._api.pods() if any(f"pod {name} " in line for line in wrong)]
        return "\n".join(
            [*(self._site.kubectl.run("describe", "pod", name) for name in pods), self._site.system_story()]
        )

    def _look(self, planned: Round) -> Snapshot:
        prepared = self._files.prepared()
        names = [device["name"] for uid in sorted(prepared.specs) for device in self._devices(uid)]
        return Snapshot(
            wanted=planned.wanted,
            pods=self._api.pods(),
            claims=self._api.claims(),
            prepared=prepared,
            cdi_devices=names,
            in_use=self._processes.claims_in_use(),
            records=self._records(),
            card_bytes=self._card_bytes,
            slots=SLOTS,
        )

    def _devices(self, uid: str) -> list[dict[str, str]]:
        try:
            devices: list[dict[str, str]] = self._files.cdi_spec(uid)["devices"]
        except FileNotFoundError:  # unprepared since
            return []
        return devices

    def _records(self) -> list[dict[str, object]]:
        shown = self._site.cluster.exec(sys.executable, "-c", _READ_RECORDS, "/var/lib/hami-dra/ledger.db", node=1)
        records: list[dict[str, object]] = json.loads(shown.stdout)
        return records
