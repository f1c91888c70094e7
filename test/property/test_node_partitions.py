"""Laws of cut cards, whatever kubelet asks for, whenever the process dies, and whatever an administrator does beside it."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from node_rig import Crash, Rig

from hami_dra.core.errors import HamiDraError
from hami_dra.core.inventory import Partition
from hami_dra.testing.gpus import A100_PROFILES, allocated_claim, gpu, inventory, partition_result, share_result

_SIZES = {profile.name: profile.memory_slices for profile in A100_PROFILES}
_PLACES = (
    ("1g.10gb", 6),
    ("1g.10gb+me", 6),
    ("1g.10gb", 5),
    ("2g.20gb", 4),
    ("3g.40gb", 4),
    ("3g.40gb", 0),
    ("2g.20gb", 0),
)
_STEPS = (
    "ledger.begin",
    "partitions.ensure",
    "GPU instance",
    "compute instance",
    "cdi.write",
    "ledger.complete",
    "cdi.remove",
    "partitions.remove",
    "destroy",
    "ledger.remove",
)
claims = st.integers(0, 2 * len(_PLACES))
steps = st.builds("{}{}".format, st.sampled_from(_STEPS), st.sampled_from(("", " done")))
places = st.sampled_from([Partition(gpu=gpu().name, profile=profile, start=start) for profile, start in _PLACES])


class Partitions(RuleBasedStateMachine):
    """Fourteen claims, two shares of each of seven places of which many overlap, and one on the whole card."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hami-cut-"))
        self.rig = Rig(self.directory, hardware=inventory(mig=True))
        results = [
            partition_result(profile, start, share_id=f"share-{number}")
            for number in range(2)
            for profile, start in _PLACES
        ]
        self.refs = [
            self.rig.claims.add(allocated_claim(f"claim-{index}", result))
            for index, result in enumerate([*results, share_result(share_id="")])
        ]
        self.foreign: set[Partition] = set()
        self.killed = False
        """A call was killed, and no start has healed it since."""

    @rule(index=claims)
    def prepare(self, index: int) -> None:
        """Kubelet prepares a claim; what does not fit is refused."""
        with contextlib.suppress(HamiDraError):
            self.rig.prepare(self.refs[index])

    @rule(index=claims)
    def unprepare(self, index: int) -> None:
        """Kubelet unprepares a claim, known or not."""
        self.rig.unprepare(self.refs[index])

    @rule(index=claims, step=steps, unprepare=st.booleans())
    def die(self, index: int, step: str, *, unprepare: bool) -> None:
        """The process is killed at a step."""
        self.rig.crash_at(step)
        with contextlib.suppress(Crash, HamiDraError):
            (self.rig.unprepare if unprepare else self.rig.prepare)(self.refs[index])
        self.rig.crash_at("")
        self.killed = True

    @rule()
    def restart(self) -> None:
        """A new process on the same files and the same card."""
        self.rig.ledger.close()
        self.rig.start()
        self.killed = False

    @rule()
    def reboot(self) -> None:
        """The machine boots, and the card forgets its instances."""
        self.rig.reboot()
        self.foreign.clear()
        self.killed = False

    @rule(place=places)
    def an_administrator_makes(self, place: Partition) -> None:
        """Somebody else makes an instance, where there is room; not of what a row of ours is about to have."""
        assume(place not in self.rig.cards.instances and place not in self._needed())
        with contextlib.suppress(HamiDraError):
            self.rig.cards.ensure(place, make=True)
            self.foreign.add(place)

    @rule()
    def an_administrator_removes(self) -> None:
        """Somebody else destroys what somebody else made."""
        for place in self.foreign - self._needed():
            self.rig.cards.remove(place)
        self.foreign &= set(self.rig.cards.instances)

    @invariant()
    def nothing_overlaps(self) -> None:
        """No memory slice is in two instances."""
        taken = [slice_ for place in self.rig.cards.instances for slice_ in _slices(place)]
        assert len(taken) == len(set(taken))

    @invariant()
    def what_others_made_stays(self) -> None:
        """No call of ours removes an administrator's instance."""
        assert self.foreign <= set(self.rig.cards.instances)

    @invariant()
    def instances_are_those_of_the_ledger(self) -> None:
        """Unless a killed call waits for a start, each instance of ours has a row, and each row its whole instance."""
        if not self.killed:
            assert set(self.rig.cards.instances) - self.foreign == self._needed() - self.foreign
            assert all(self.rig.cards.instances[place] for place in self._needed())

    def teardown(self) -> None:
        """Let go of the directory."""
        self.rig.close()
        shutil.rmtree(self.directory)

    def _needed(self) -> set[Partition]:
        shares = (share for entry in self.rig.ledger.entries() for share in entry.plan.shares)
        return {share.partition.place for share in shares if share.partition is not None}


def _slices(place: Partition) -> range:
    return range(place.start, place.start + _SIZES[place.profile])


TestPartitions = Partitions.TestCase
TestPartitions.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
