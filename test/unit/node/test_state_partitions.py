"""Cards are cut for claims and joined again, whatever dies in between, and what others made stays."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_rig import Crash, Facts, Rig

from hami_dra.api.k8s import AllocationResult
from hami_dra.core.errors import (
    CapacityExceeded,
    DeviceLost,
    DriverError,
    HamiDraError,
    NodeStateError,
    PartitionRefused,
    UnknownDevice,
)
from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import Partition
from hami_dra.core.plan import PlannedPartition
from hami_dra.node.state import ClaimRef
from hami_dra.testing.gpus import allocated_claim, gpu, inventory, partition_result, share_result

SMALL = Partition(gpu=gpu().name, profile="1g.10gb", start=6)
NOTHING = Facts(shares=set(), cdi=set(), ledger={})
PREPARED = Facts(shares=set(), cdi={"train-uid"}, ledger={"train-uid": "Completed"})
STEPS = [
    "partitions.live",
    "ledger.begin",
    "ledger.begin done",
    "partitions.ensure",
    "GPU instance",
    "compute instance",
    "partitions.ensure done",
    "shares.ensure",
    "shares.ensure done",
    "cdi.write",
    "cdi.write done",
    "ledger.complete",
]
UNDO_STEPS = [
    "cdi.remove",
    "cdi.remove done",
    "shares.remove done",
    "partitions.remove",
    "destroy",
    "partitions.remove done",
    "ledger.remove",
    "ledger.remove done",
]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A node with one A100 that can be cut."""
    rig = Rig(tmp_path, hardware=inventory(mig=True))
    yield rig
    rig.close()


def claim(rig: Rig, name: str = "train", profile: str = "1g.10gb", start: int = 6, share_id: str = "") -> ClaimRef:
    """A claim on a partition."""
    return rig.claims.add(allocated_claim(name, partition_result(profile, start, share_id=share_id)))


def places(rig: Rig) -> list[str]:
    """The instances on the card."""
    return sorted(f"{place.profile}@{place.start}" for place in rig.cards.instances)


def test_a_partition_comes_and_goes_with_its_claim(rig: Rig) -> None:
    """It is made at the allocated place, and its containers get its files; after the claim it is gone."""
    train = claim(rig)
    prepared = rig.prepare(train)
    assert places(rig) == ["1g.10gb@6"]
    assert rig.facts() == PREPARED
    (share,) = prepared.plan.shares
    assert share.partition == PlannedPartition(place=SMALL, size=1, uuid=GpuUuid(f"MIG-{SMALL.name}"))
    assert share.limits is None
    spec = rig.cdi_file("train-uid").read_text()
    assert f'"path":"/dev/nvidia-caps/{SMALL.name}","type":"c","major":237,"minor":7' in spec.replace(" ", "")
    assert "/driver/dev/nvidia0" in spec
    rig.prepare(train)
    assert places(rig) == ["1g.10gb@6"]
    rig.unprepare(train)
    assert places(rig) == []
    assert rig.facts() == NOTHING


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("heal", ["retry", "restart", "restart and retry"])
def test_a_crash_at_any_step_of_making_one_is_healed(rig: Rig, step: str, heal: str) -> None:
    """Killed anywhere, a start leaves nothing, and a retry makes one whole partition: never two, never half of one."""
    train = claim(rig)
    rig.crash_at(step)
    with pytest.raises(Crash):
        rig.prepare(train)
    if "restart" in heal:
        rig.start()
        assert (rig.facts(), places(rig)) == (NOTHING, [])
    rig.crash_at("")
    if "retry" in heal:
        rig.prepare(train)
        assert (rig.facts(), places(rig)) == (PREPARED, ["1g.10gb@6"])
        assert rig.cards.instances[SMALL]
        rig.unprepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, [])


@pytest.mark.parametrize("step", UNDO_STEPS)
@pytest.mark.parametrize("heal", ["retry", "restart and retry", "prepare"])
def test_a_crash_at_any_step_of_removing_one_is_healed(rig: Rig, step: str, heal: str) -> None:
    """Killed anywhere, a retry removes the rest, and a pod that comes back first gets a whole partition."""
    train = claim(rig)
    rig.prepare(train)
    rig.crash_at(step)
    with pytest.raises(Crash):
        rig.unprepare(train)
    if "restart" in heal:
        rig.start()
    rig.crash_at("")
    if heal == "prepare":
        rig.prepare(train)
        assert (rig.facts(), places(rig)) == (PREPARED, ["1g.10gb@6"])
    rig.unprepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, [])


@pytest.mark.parametrize(
    "step", ["partitions.ensure", "compute instance", "shares.ensure", "cdi.write", "ledger.complete"]
)
def test_a_failure_joins_the_card_again(rig: Rig, step: str) -> None:
    """Whatever fails, nothing of the claim is left, and the next attempt starts from there."""
    train = claim(rig)

    def fail(name: str) -> None:
        if name == step:
            raise NodeStateError("the disk is full")

    rig.on_effect = fail
    with pytest.raises(NodeStateError, match="the disk is full"):
        rig.prepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, [])
    rig.on_effect = None
    rig.prepare(train)
    assert (rig.facts(), places(rig)) == (PREPARED, ["1g.10gb@6"])


def test_a_shared_partition_goes_with_the_last_share(rig: Rig) -> None:
    """Two claims on one partition have shares of it, each with its limits; the first to end leaves the other alone."""
    first, second = (claim(rig, name, "2g.20gb", 0, share_id=f"share-{name}") for name in ("first", "second"))
    for one in (first, second):
        limits = rig.prepare(one).plan.shares[0].limits
        assert limits is not None
        assert limits.device_uuid == f"MIG-{gpu().name}-mig-2g-20gb-0"
        assert (limits.memory_limit_bytes, limits.device_memory_bytes) == (4 << 30, 19968 << 20)
    rig.unprepare(first)
    assert places(rig) == ["2g.20gb@0"]
    rig.start()
    assert places(rig) == ["2g.20gb@0"]
    rig.unprepare(second)
    assert places(rig) == []


def test_a_shared_partition_is_not_filled_beyond_its_own_memory(rig: Rig) -> None:
    """Its shares are held against the partition's memory, not the card's."""
    for name in ("first", "second"):
        rig.prepare(claim(rig, name, share_id=f"share-{name}"))
    with pytest.raises(CapacityExceeded, match=rf"{SMALL.name} has 1664Mi of 9856Mi free, 4Gi asked"):
        rig.prepare(claim(rig, "third", share_id="share-third"))
    assert places(rig) == ["1g.10gb@6"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (partition_result("3g.40gb", 4), partition_result("1g.10gb", 6)),
        (partition_result("1g.10gb", 6), partition_result("1g.10gb+me", 6)),
        (partition_result("1g.10gb", 6), share_result(share_id="")),
        (share_result(), partition_result("1g.10gb", 6)),
    ],
)
def test_what_overlaps_is_refused(rig: Rig, first: AllocationResult, second: AllocationResult) -> None:
    """A memory slice is given once, and a card is whole or cut, whatever the scheduler thought; nothing is touched for it."""
    rig.prepare(rig.claims.add(allocated_claim("first", first)))
    before = places(rig)
    with pytest.raises(CapacityExceeded, match=r"cannot be used beside .* which is in use by ml/first"):
        rig.prepare(rig.claims.add(allocated_claim("second", second)))
    assert places(rig) == before
    assert set(rig.facts().ledger) == {"first-uid"}


def test_partitions_beside_each_other_fill_the_card(rig: Rig) -> None:
    """Instances of three profiles in one claim and in two lie beside each other."""
    rig.prepare(rig.claims.add(allocated_claim("pair", partition_result("3g.40gb", 4), partition_result("2g.20gb", 2))))
    rig.prepare(claim(rig, "one", "1g.10gb", 0))
    rig.prepare(claim(rig, "two", "1g.10gb", 1))
    assert places(rig) == ["1g.10gb@0", "1g.10gb@1", "2g.20gb@2", "3g.40gb@4"]


def test_static_partitions_are_used_and_never_removed(rig: Rig) -> None:
    """What an administrator made is handed out as found, also over a crash, and stays when the last claim has gone."""
    rig.cards.ensure(SMALL, make=True)
    train = claim(rig)
    rig.crash_at("cdi.write")
    with pytest.raises(Crash):
        rig.prepare(train)
    rig.start()
    assert (rig.facts(), places(rig)) == (NOTHING, ["1g.10gb@6"])
    (share,) = rig.prepare(train).plan.shares
    assert share.partition is not None
    assert not share.partition.ours
    rig.unprepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, ["1g.10gb@6"])


def test_a_static_partition_that_was_destroyed_is_not_made_again(rig: Rig) -> None:
    """Its claim is told so: nobody makes what an administrator took away."""
    rig.cards.ensure(SMALL, make=True)
    train = claim(rig)
    rig.prepare(train)
    rig.cards.instances.clear()
    with pytest.raises(PartitionRefused, match="is gone"):
        rig.prepare(train)
    rig.discovery.look()
    assert places(rig) == []


def test_instances_that_nobody_here_made_stay(rig: Rig) -> None:
    """A start removes what a row of ours names and nothing else, not even what is only half made (NVIDIA #1327, #1371)."""
    foreign = Partition(gpu=gpu().name, profile="3g.40gb", start=0)
    rig.cards.instances[foreign] = False
    rig.crash_at("compute instance")
    with pytest.raises(Crash):
        rig.prepare(claim(rig))
    rig.start()
    assert places(rig) == ["3g.40gb@0"]


def test_a_look_tells_whose_an_instance_is(rig: Rig) -> None:
    """So that a card with an administrator's instances is offered as found, and one with ours as before."""
    rig.cards.ensure(Partition(gpu=gpu().name, profile="3g.40gb", start=0), make=True)
    rig.prepare(claim(rig))
    rig.discovery.look()
    (card,) = rig.discovery.current().gpus
    assert {(each.profile, each.ours) for each in card.instances} == {("3g.40gb", False), ("1g.10gb", True)}


def test_results_of_other_drivers_remove_nothing(rig: Rig) -> None:
    """A claim that also has devices of another driver, under names like ours, frees only what is ours (NVIDIA #1327)."""
    rig.cards.ensure(Partition(gpu=gpu().name, profile="3g.40gb", start=0), make=True)
    other: AllocationResult = {**partition_result("3g.40gb", 0), "driver": "gpu.nvidia.com"}
    both = rig.claims.add(allocated_claim("both", partition_result("1g.10gb", 6), other))
    rig.prepare(both)
    rig.unprepare(both)
    assert places(rig) == ["3g.40gb@0"]


def test_a_late_prepare_of_a_deleted_claim_makes_nothing(rig: Rig) -> None:
    """After Unprepare a stale Prepare finds no claim, hence no partition comes back (NVIDIA #1205)."""
    train = claim(rig)
    rig.prepare(train)
    rig.unprepare(train)
    rig.claims.claims.clear()
    with pytest.raises(HamiDraError, match="was deleted"):
        rig.prepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, [])


def test_a_reboot_takes_the_instances_and_kubelet_prepares_again(rig: Rig) -> None:
    """Rows of another boot name nothing that is there now: what somebody made since the boot stays."""
    train = claim(rig)
    rig.prepare(train)
    rig.reboot()
    assert (rig.facts(), places(rig)) == (NOTHING, [])
    rig.prepare(train)
    assert (rig.facts(), places(rig)) == (PREPARED, ["1g.10gb@6"])
    rig.boot += "y"
    rig.start()
    assert (rig.facts(), places(rig)) == (NOTHING, ["1g.10gb@6"])


def test_a_partition_that_a_reset_took_is_made_again(rig: Rig) -> None:
    """The next look at the hardware misses it and makes it anew for the claim that has it."""
    rig.prepare(claim(rig))
    rig.cards.instances.clear()
    rig.discovery.look()
    assert places(rig) == ["1g.10gb@6"]


def test_a_partition_with_another_name_is_another_one(rig: Rig) -> None:
    """Where the driver names what was made again otherwise, the claim's containers cannot find it: the claim is told so."""
    train = claim(rig)
    rig.prepare(train)
    rig.cards.series = "2"
    with pytest.raises(DeviceLost, match="is not the one that the claim's containers know"):
        rig.prepare(train)


def test_a_card_that_does_not_answer_keeps_the_row(rig: Rig) -> None:
    """A partition in use is not forgotten: Unprepare fails, the row stays, and it goes once the process is gone."""
    train = claim(rig)
    rig.prepare(train)
    rig.cards.busy.add(gpu().name)
    with pytest.raises(DriverError, match="In use"):
        rig.unprepare(train)
    assert rig.facts().ledger == {"train-uid": "Completed"}
    rig.cards.busy.clear()
    rig.unprepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, [])


def test_a_start_before_the_driver_answers_undoes_later(rig: Rig) -> None:
    """What an earlier run left half done is undone by the first look at the hardware that works."""
    rig.crash_at("compute instance")
    with pytest.raises(Crash):
        rig.prepare(claim(rig))
    rig.cards.busy.add(gpu().name)
    rig.start()
    assert places(rig) == ["1g.10gb@6"]
    assert rig.facts().ledger == {"train-uid": "Started"}
    rig.cards.busy.clear()
    rig.discovery.look()
    assert (rig.facts(), places(rig)) == (NOTHING, [])


def test_a_whole_card_leaves_mig_mode(rig: Rig) -> None:
    """After partitions the card is whole again for the claim that takes it so; with a foreign instance it is not."""
    train = claim(rig)
    rig.prepare(train)
    rig.unprepare(train)
    assert rig.cards.mig == {gpu().name}
    whole = rig.claims.add(allocated_claim("whole", share_result(share_id="")))
    rig.prepare(whole)
    assert rig.cards.mig == set()
    rig.unprepare(whole)
    rig.cards.ensure(SMALL, make=True)
    with pytest.raises(PartitionRefused, match="is in MIG mode and has GPU instances"):
        rig.prepare(whole)
    assert (rig.facts(), places(rig)) == (NOTHING, ["1g.10gb@6"])


def test_a_monitor_changes_no_card(rig: Rig) -> None:
    """Admin access to a partition sees its card and the partition if it is there, makes nothing and removes nothing."""
    train = claim(rig)
    rig.prepare(train)
    rig.cards.instances[Partition(gpu=gpu().name, profile="1g.10gb", start=3)] = False  # somebody else's, half made
    result = partition_result("1g.10gb", 6) | {"adminAccess": True}
    for name, start, sees in (("monitor", 6, True), ("early", 0, False), ("half", 3, False)):
        watcher = rig.claims.add(
            allocated_claim(name, result | {"device": partition_result("1g.10gb", start)["device"]})
        )
        for _ in range(2):
            rig.prepare(watcher)
            (device,) = json.loads(rig.cdi_file(f"{name}-uid").read_text())["devices"]
            files = {node["path"] for node in device["containerEdits"].get("deviceNodes", [])}
            assert files == ({f"/dev/nvidia-caps/{SMALL.name}"} if sees else set())
            assert "/dev/nvidia0" in {mount["containerPath"] for mount in device["containerEdits"]["mounts"]}
        rig.unprepare(watcher)
    assert places(rig) == ["1g.10gb@3", "1g.10gb@6"]


def test_a_place_that_the_card_does_not_have_is_unknown(rig: Rig) -> None:
    """The message says what it has."""
    with pytest.raises(
        UnknownDevice, match=r"has no profile 2g\.20gb at memory slice 1; its profiles are 1g\.10gb, 2g\.20gb"
    ):
        rig.prepare(claim(rig, "odd", "2g.20gb", 1))


def test_a_damaged_ledger_still_knows_whose_partitions_they_are(rig: Rig) -> None:
    """The share files repeat the plan, so that what was made for claims goes with them."""
    train = claim(rig)
    rig.prepare(train)
    rig.ledger.close()
    ledger = rig.directory / "state" / "ledger.db"
    ledger.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    for suffix in ("-wal", "-shm"):
        Path(f"{ledger}{suffix}").unlink(missing_ok=True)
    rig.start()
    assert rig.facts() == PREPARED
    rig.unprepare(train)
    assert (rig.facts(), places(rig)) == (NOTHING, [])
