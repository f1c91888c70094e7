"""What crashes, failures, reboots and lost files leave: nothing, or a whole prepared claim."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from node_rig import EFFECTS, Crash, Facts, Rig

from hami_dra._lib.threads import Group
from hami_dra.core.errors import CapacityExceeded, NodeStateError
from hami_dra.node.discovery import Discovery
from hami_dra.node.recovery import Recovery
from hami_dra.testing.gpus import allocated_claim, inventory, share_result

SHARE = "6b0f2a6e-0000-4000-8000-000000000001"
KEY = f"gpu-0000-17-00-0-{SHARE}"
NOTHING = Facts(shares=set(), cdi=set(), ledger={})
PREPARED = Facts(shares={f"train-uid/{KEY}"}, cdi={"train-uid"}, ledger={"train-uid": "Completed"})
EVERY_EFFECT = [f"{effect}{when}" for effect in EFFECTS for when in ("", " done")]


@pytest.mark.parametrize("effect", EVERY_EFFECT)
@pytest.mark.parametrize("restart", [False, True])
def test_a_crash_at_any_effect_of_prepare_is_healed(rig: Rig, effect: str, *, restart: bool) -> None:
    """After a kill -9 anywhere and kubelet's retry, with or without a restart between them, there is one of everything."""
    train = rig.claims.add(allocated_claim())
    rig.crash_at(effect)
    with pytest.raises(Crash):
        rig.prepare(train)
    if restart:
        rig.start()
    rig.crash_at("")
    rig.prepare(train)
    assert rig.facts() == PREPARED
    rig.prepare(train)
    assert rig.facts() == PREPARED
    rig.unprepare(train)
    assert rig.facts() == NOTHING


@pytest.mark.parametrize("effect", EVERY_EFFECT[:-1])
def test_a_start_undoes_what_did_not_end(rig: Rig, effect: str) -> None:
    """Where kubelet does not come back, the next start leaves nothing of an unfinished preparation."""
    train = rig.claims.add(allocated_claim())
    rig.crash_at(effect)
    with pytest.raises(Crash):
        rig.prepare(train)
    rig.start()
    assert rig.facts() == NOTHING


@pytest.mark.parametrize(
    "effect", [f"{name}.remove{when}" for name in ("cdi", "shares", "ledger") for when in ("", " done")]
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_crash_at_any_effect_of_unprepare_is_healed(rig: Rig, effect: str, *, restart: bool) -> None:
    """After a kill -9 anywhere in unprepare and kubelet's retry nothing is left."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.crash_at(effect)
    with pytest.raises(Crash):
        rig.unprepare(train)
    if restart:
        rig.start()
    rig.crash_at("")
    rig.unprepare(train)
    assert rig.facts() == NOTHING


def test_a_claim_half_unprepared_can_be_prepared_again(rig: Rig) -> None:
    """A pod that comes back before Unprepare was retried gets whole files."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    rig.crash_at("shares.remove done")
    with pytest.raises(Crash):
        rig.unprepare(train)
    rig.crash_at("")
    rig.prepare(train)
    assert rig.facts() == PREPARED


@pytest.mark.parametrize("effect", ["shares.ensure", "cdi.write", "ledger.complete"])
def test_a_failure_leaves_nothing(rig: Rig, effect: str) -> None:
    """A file that cannot be written fails the claim, and what was written before is gone."""
    train = rig.claims.add(allocated_claim())

    def fail(name: str) -> None:
        if name == effect:
            raise NodeStateError("the disk is full")

    rig.on_effect = fail
    with pytest.raises(NodeStateError, match="the disk is full"):
        rig.prepare(train)
    assert rig.facts() == NOTHING
    rig.on_effect = None
    rig.prepare(train)
    assert rig.facts() == PREPARED


def test_missing_files_are_made_again(rig: Rig) -> None:
    """A repeated prepare makes a lost CDI file and lost share files again, and never truncates a usage file in use."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    usage = rig.claims_dir / "train-uid" / KEY / "usage"
    with usage.open("r+b") as file:
        file.write(b"in use")
    rig.cdi_file("train-uid").unlink()
    usage.with_name("limits").unlink()
    rig.prepare(train)
    assert rig.facts() == PREPARED
    assert usage.read_bytes()[:6] == b"in use"
    assert usage.with_name("limits").exists()


def test_a_look_at_the_hardware_restores_a_lost_cdi_file(rig: Rig) -> None:
    """A container that restarts needs its spec, and kubelet does not prepare again for that: the minute's look does it."""
    rig.prepare(rig.claims.add(allocated_claim()))
    rig.cdi_file("train-uid").unlink()
    rig.discovery.look()
    assert rig.facts() == PREPARED


def test_a_reboot_makes_everything_anew(rig: Rig) -> None:
    """State of another boot is dropped at the start, and the claim is prepared from nothing."""
    train = rig.claims.add(allocated_claim())
    rig.prepare(train)
    usage = rig.claims_dir / "train-uid" / KEY / "usage"
    with usage.open("r+b") as file:
        file.write(b"of another boot")
    rig.reboot()
    assert rig.facts() == NOTHING
    rig.prepare(train)
    assert rig.facts() == PREPARED
    assert not usage.read_bytes().strip(b"\0")


def test_a_claim_of_another_boot_holds_nothing(rig: Rig) -> None:
    """Rows of another boot do not count against capacity, even where a start could not remove them yet."""
    rig.prepare(rig.claims.add(allocated_claim("first", share_result(memory_gib=64))))
    rig.boot = "another"
    rig._make()
    rig.discovery.look()
    late = rig.claims.add(allocated_claim("late", share_result(memory_gib=64, share_id=SHARE[:-1] + "2")))
    rig.prepare(late)


def test_files_without_an_owner_are_swept(rig: Rig) -> None:
    """Files that no row of the ledger knows are removed at the start, and other vendors' files stay."""
    rig.prepare(rig.claims.add(allocated_claim()))
    orphan = rig.claims_dir / "orphan" / "gpu-x"
    orphan.mkdir(parents=True)
    rig.cdi_file("orphan").write_text("{}")
    foreign = rig.cdi_dir / "k8s.gpu.nvidia.com-claim_x.json"
    foreign.write_text("{}")
    rig.start()
    assert not orphan.parent.exists()
    assert not rig.cdi_file("orphan").exists()
    assert foreign.exists()
    foreign.unlink()
    assert rig.facts() == PREPARED


def test_a_claim_somebody_works_on_is_left_alone_by_a_start(rig: Rig, tmp_path: Path) -> None:
    """The second node plugin of a rolling update does not undo what the first one is just preparing."""
    train = rig.claims.add(allocated_claim())
    second: list[Rig] = []

    def start_second(name: str) -> None:
        if name == "cdi.write" and not second:
            second.append(Rig(tmp_path, claims=rig.claims))

    rig.on_effect = start_second
    rig.prepare(train)
    assert rig.facts() == PREPARED
    assert second[0].prepare(train).devices
    second[0].close()


def remove(ledger: Path) -> None:
    """Somebody cleaned up."""
    ledger.unlink()


def empty(ledger: Path) -> None:
    """A disk that was full, or a copy that failed."""
    ledger.write_bytes(b"")


def cut(ledger: Path) -> None:
    """A file system that was repaired."""
    ledger.write_bytes(ledger.read_bytes()[: ledger.stat().st_size // 2])


def overwrite(ledger: Path) -> None:
    """Something else in its place."""
    ledger.write_bytes(b"not a database, but long enough to be taken for one" * 100)


def age(ledger: Path) -> None:
    """A release before the first."""
    connection = sqlite3.connect(ledger)
    connection.execute("PRAGMA user_version = 0")
    connection.close()


@pytest.mark.parametrize("damage", [remove, empty, cut, overwrite, age])
@pytest.mark.parametrize("wiped", [False, True], ids=["", "and the CDI directory wiped"])
def test_a_lost_ledger_is_made_again_from_the_share_files(
    rig: Rig, damage: Callable[[Path], None], *, wiped: bool
) -> None:
    """What was prepared stays prepared and charged to its card, whole cards too; a damaged file is kept for the curious."""
    train = rig.claims.add(allocated_claim("train", share_result(memory_gib=64)))
    rig.hardware = inventory(2)
    rig.discovery.look()
    whole = rig.claims.add(allocated_claim("whole", share_result(index=1, share_id="")))
    for claim in (train, whole):
        rig.prepare(claim)
    before = rig.facts()
    rig.ledger.close()
    ledger = rig.directory / "state" / "ledger.db"
    damage(ledger)
    if wiped:
        for path in rig.cdi_dir.iterdir():
            path.unlink()
    rig.start()
    assert rig.facts() == before
    assert bool(list(ledger.parent.glob("*.corrupt-1"))) == (damage not in {remove, empty})
    late = rig.claims.add(allocated_claim("late", share_result(share_id=SHARE[:-1] + "2", memory_gib=32)))
    with pytest.raises(CapacityExceeded, match="held by ml/train"):
        rig.prepare(late)
    rig.unprepare(train)
    rig.unprepare(whole)
    assert rig.facts() == NOTHING


def test_a_ledger_put_back_to_an_older_state_learns_what_it_lacks(rig: Rig) -> None:
    """A claim that was prepared since has whole files and no row: it is taken back, not swept from under its containers."""
    ledger = rig.directory / "state" / "ledger.db"
    first = rig.claims.add(allocated_claim("first", share_result(share_id=SHARE[:-1] + "1", memory_gib=8)))
    rig.prepare(first)
    rig.ledger.close()
    older = ledger.read_bytes()
    rig.start()
    rig.unprepare(first)
    rig.prepare(rig.claims.add(allocated_claim()))
    rig.ledger.close()
    ledger.write_bytes(older)
    rig.start()
    assert rig.facts().ledger == {"train-uid": "Completed", "first-uid": "Completed"}
    rig.unprepare(first)
    assert rig.facts() == PREPARED


def test_what_kubelet_was_taking_away_is_not_taken_back(rig: Rig) -> None:
    """An unprepare that was killed after the spec, and a ledger that is older: the remains are swept."""
    ledger = rig.directory / "state" / "ledger.db"
    rig.ledger.close()
    older = ledger.read_bytes()
    rig.start()
    rig.prepare(rig.claims.add(allocated_claim()))
    rig.cdi_file("train-uid").unlink()
    rig.ledger.close()
    ledger.write_bytes(older)
    rig.start()
    assert rig.facts() == NOTHING


def test_a_record_that_cannot_be_read_is_nobodys(rig: Rig) -> None:
    """Without a ledger and with half a record nobody can tell whose the files are."""
    rig.prepare(rig.claims.add(allocated_claim()))
    rig.ledger.close()
    (rig.directory / "state" / "ledger.db").unlink()
    record = rig.claims_dir / "train-uid" / "claim.json"
    record.write_bytes(record.read_bytes()[:40])
    rig.start()
    assert rig.facts() == NOTHING


def test_a_wiped_cdi_directory_is_written_again_within_seconds(rig: Rig) -> None:
    """Nobody asks again for what kubelet holds for prepared: the plugin sees for itself."""
    rig.prepare(rig.claims.add(allocated_claim()))
    for path in rig.cdi_dir.iterdir():
        path.unlink()
    waits = _look_once(rig)
    assert rig.facts() == PREPARED
    assert max(waits) <= 5.0


def test_before_the_devices_are_known_nothing_is_written_again(rig: Rig) -> None:
    """Right after a start the driver may not have answered yet: a spec without its devices would be wrong."""
    rig.prepare(rig.claims.add(allocated_claim()))
    for path in rig.cdi_dir.iterdir():
        path.unlink()
    blind = Recovery(
        state=rig.state, discovery=Discovery(discover=lambda: rig.hardware, group=rig.group), files=rig.files
    )
    _look_once(rig, blind)
    assert not rig.facts().cdi


def _look_once(rig: Rig, recovery: Recovery | None = None) -> list[float]:
    """The waits before a look and after it."""
    waits: list[float] = []

    class Stopping(Group):
        def wait(self, timeout_s: float | None = None) -> bool:
            waits.append(timeout_s or 0.0)
            return len(waits) > 1

    (recovery or rig.recovery).run(Stopping("files"))
    return waits
