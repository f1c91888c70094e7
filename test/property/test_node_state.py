"""Laws of the node's state machine, whatever kubelet asks for and whenever the process dies."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from node_rig import EFFECTS, Crash, Rig

from hami_dra.core.errors import ApiUnavailable, CapacityExceeded
from hami_dra.testing.gpus import allocated_claim, share_result

_CLAIMS = 6
_GIB = 20
_FIT = 4
_MOMENTS = ("", " done")
_UNDO_EFFECTS = ("cdi.remove", "shares.remove", "ledger.remove")

claims = st.integers(0, _CLAIMS - 1)
prepare_effects = st.builds("{}{}".format, st.sampled_from(EFFECTS + _UNDO_EFFECTS), st.sampled_from(_MOMENTS))
unprepare_effects = st.builds("{}{}".format, st.sampled_from(_UNDO_EFFECTS), st.sampled_from(_MOMENTS))


class NodeStateMachine(RuleBasedStateMachine):
    """Six claims of 20 GiB on a card of 80 GiB: prepared, unprepared, killed in between, restarted, rebooted."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="hami-state-"))
        self.rig = Rig(self.directory)
        self.refs = [
            self.rig.claims.add(
                allocated_claim(f"claim-{index}", share_result(share_id=f"share-{index}", memory_gib=_GIB, cores=0))
            )
            for index in range(_CLAIMS)
        ]
        self.prepared: set[int] = set()
        """Answered to kubelet and not unprepared since."""
        self.unsure: set[int] = set()
        """A call was killed, and nothing has settled it since."""

    @rule(index=claims)
    def prepare(self, index: int) -> None:
        """Kubelet prepares a claim: it works unless the card is full, and a prepared one always works."""
        self._prepare(self.rig, index)

    @rule(prepared=claims, unprepared=claims)
    def overlap(self, prepared: int, unprepared: int) -> None:
        """A second node plugin starts beside the first, as in a rolling update: kubelet may ask either of them."""
        second = Rig(self.directory, boot=self.rig.boot, claims=self.rig.claims)
        self._prepare(second, prepared)
        second.unprepare(self.refs[unprepared])
        self.prepared.discard(unprepared)
        self.unsure.discard(unprepared)
        second.close()

    def _prepare(self, rig: Rig, index: int) -> None:
        before = self._rows()
        try:
            rig.prepare(self.refs[index])
        except CapacityExceeded:
            assert index not in self.prepared
            assert len(before - {index}) >= _FIT
            assert index not in self._rows()
            self.unsure.discard(index)
        else:
            self.prepared.add(index)
            self.unsure.discard(index)

    @rule(index=claims)
    def unprepare(self, index: int) -> None:
        """Kubelet unprepares a claim, known or not."""
        self.rig.unprepare(self.refs[index])
        self.prepared.discard(index)
        self.unsure.discard(index)

    @rule(index=claims)
    def unprepare_early(self, index: int) -> None:
        """Kubelet unprepares under living processes: what they have stays until they have ended."""
        uid = self.refs[index].uid
        before = self.rig.facts()
        self.rig.in_use.add(uid)
        self.rig.unprepare(self.refs[index])
        self.rig.state.unprepare_late()
        assert self.rig.facts() == before
        self.rig.in_use.clear()
        self.rig.state.unprepare_late()
        self.prepared.discard(index)
        self.unsure.discard(index)

    @rule(known=claims, leaving=claims)
    def lose_the_api_server(self, known: int, leaving: int) -> None:
        """While it is away what is prepared is found, nothing is begun, and whoever ends is unprepared."""
        self.rig.claims.down = True
        try:
            self.rig.prepare(self.refs[known])
        except ApiUnavailable:
            assert known not in self.prepared
            self.unsure.discard(known)
        else:
            assert known in self.prepared | self.unsure
            self.prepared.add(known)
            self.unsure.discard(known)
        self.unprepare(leaving)
        self.rig.claims.down = False

    @rule(index=claims, effect=prepare_effects, restart=st.booleans())
    def die_in_prepare(self, index: int, effect: str, *, restart: bool) -> None:
        """The process is killed at an effect of a prepare."""
        self.rig.crash_at(effect)
        with contextlib.suppress(Crash, CapacityExceeded):
            self.rig.prepare(self.refs[index])
        self.rig.crash_at("")
        if index not in self.prepared:
            self.unsure.add(index)
        if restart:
            self.restart()

    @rule(index=claims, effect=unprepare_effects, restart=st.booleans())
    def die_in_unprepare(self, index: int, effect: str, *, restart: bool) -> None:
        """The process is killed at an effect of an unprepare."""
        self.rig.crash_at(effect)
        with contextlib.suppress(Crash):
            self.rig.unprepare(self.refs[index])
        self.rig.crash_at("")
        self.prepared.discard(index)
        self.unsure.add(index)
        if restart:
            self.restart()

    @rule()
    def restart(self) -> None:
        """A new process on the same files: whatever is there now is whole."""
        self.rig.ledger.close()
        self.rig.start()
        facts = self.rig.facts()
        assert set(facts.ledger.values()) <= {"Completed"}
        assert facts.cdi == set(facts.ledger)
        assert {share.partition("/")[0] for share in facts.shares} == set(facts.ledger)

    @rule()
    def lose_the_ledger(self) -> None:
        """Somebody removes the ledger, and the node plugin starts anew: what was prepared stays prepared."""
        for path in (self.directory / "state").glob("ledger.db*"):
            path.unlink()
        self.restart()

    @rule()
    def reboot(self) -> None:
        """The machine boots: nothing is prepared any more."""
        self.rig.reboot()
        self.prepared.clear()
        self.unsure.clear()
        facts = self.rig.facts()
        assert (facts.shares, facts.cdi, facts.ledger) == (set(), set(), {})

    @precondition(lambda self: self.prepared)
    @rule(data=st.data())
    def lose_a_cdi_file(self, data: st.DataObject) -> None:
        """Somebody removes a spec; the next look at the hardware brings it back."""
        index = data.draw(st.sampled_from(sorted(self.prepared)))
        self.rig.cdi_file(self.refs[index].uid).unlink()
        self.rig.discovery.look()

    @invariant()
    def prepared_claims_are_whole(self) -> None:
        """One share, one spec and one completed row for each prepared claim, and nothing for one that is not."""
        facts = self.rig.facts()
        for index in set(range(_CLAIMS)) - self.unsure:
            uid = self.refs[index].uid
            there = (
                [share for share in facts.shares if share.startswith(f"{uid}/")],
                uid in facts.cdi,
                facts.ledger.get(uid),
            )
            wanted = ([f"{uid}/gpu-0000-17-00-0-share-{index}"], True, "Completed")
            assert there == (wanted if index in self.prepared else ([], False, None))

    @invariant()
    def the_card_is_never_overbooked(self) -> None:
        """Rows never add up to more than the card has."""
        assert len(self._rows()) <= _FIT

    def teardown(self) -> None:
        """Let go of the directory."""
        self.rig.close()
        shutil.rmtree(self.directory)

    def _rows(self) -> set[int]:
        return {int(uid.split("-")[1]) for uid in self.rig.facts().ledger}


TestNodeState = NodeStateMachine.TestCase
TestNodeState.settings = settings(
    max_examples=45, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
