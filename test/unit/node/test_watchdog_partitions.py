"""What the watchdog does about shares of partitions, which it looks at one by one."""

import logging
from collections.abc import Iterator

import pytest
from node_rig import Rig
from unit.node.test_watchdog import GIB, Bench

from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Partition, parse_partition
from hami_dra.testing.gpus import allocated_claim, gpu, inventory, partition_result, share_result

NAMES = [Partition(gpu=gpu().name, profile="1g.10gb", start=start).name for start in (0, 1)]


@pytest.fixture
def bench(rig: Rig) -> Iterator[Bench]:
    """A node with two A100s; one claim has a share of 4 GiB on two partitions of the first."""
    rig.hardware = inventory(2, mig=True)
    rig.discovery.look()
    bench = Bench(rig)
    shares = [partition_result(start=start, request=f"gpu-{start}", share_id=f"share-{start}") for start in (0, 1)]
    bench.consumers.prepared(rig.prepare(rig.claims.add(allocated_claim("train", *shares))))
    bench.driver.parts = {_uuid(bench, name): {} for name in NAMES}
    bench.table.pods = {71: "train-pod-uid", 72: "train-pod-uid"}
    yield bench
    rig.group.stop()


def _uuid(bench: Bench, name: DeviceName) -> str:
    partition = parse_partition(name)
    assert partition is not None
    return bench.rig.cards.uuid(partition)


def _held(bench: Bench) -> dict[str, int]:
    return {share.planned.spec.device: share.state.memory_bytes for share in bench.watchdog.shares()}


def test_the_figures_of_a_partition_are_its_shares_alone(bench: Bench) -> None:
    """One pod has shares of two partitions: nothing but the partition tells of which of them a process is."""
    bench.driver.held = {71: 6 * GIB, 72: GIB}  # of the card: the sums
    bench.driver.parts = {_uuid(bench, NAMES[0]): {72: GIB}, _uuid(bench, NAMES[1]): {71: 6 * GIB, 99: 2 * GIB}}
    bench.rounds(12)
    assert _held(bench) == {NAMES[0]: GIB, NAMES[1]: 6 * GIB}
    (message,) = set(bench.events.messages)
    assert message.startswith(f"device {NAMES[1]}: by the driver the share holds 6Gi of 4Gi")
    assert bench.watchdog.others() == {NAMES[0]: 0, NAMES[1]: 2 * GIB}
    assert bench.metric("hami_dra_device_unattributed_memory_bytes", device=NAMES[1]) == 2 * GIB


def test_a_partition_that_is_not_made_yet_is_not_looked_at(bench: Bench) -> None:
    """Its claim is written down before, without the name that the driver will give it."""
    bench.rig.crash_at("partitions.ensure")
    with pytest.raises(BaseException, match=r"partitions\.ensure"):
        bench.rig.prepare(bench.rig.claims.add(allocated_claim("late", partition_result(start=5, share_id="late"))))
    bench.rounds(2)
    assert set(_held(bench)) == set(NAMES)


def test_a_lost_card_keeps_nobody_from_watching_the_others(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong is said once for each device."""
    bench.rig.prepare(bench.rig.claims.add(allocated_claim("lost", share_result(index=1, share_id="lost"))))
    del bench.driver.parts[_uuid(bench, NAMES[0])]
    caplog.set_level(logging.WARNING)
    bench.driver.parts[_uuid(bench, NAMES[1])] = {71: 6 * GIB}
    bench.rounds(12)
    assert _held(bench)[NAMES[1]] == 6 * GIB
    said = [record.message for record in caplog.records if "not watched" in record.message]
    assert len(said) == 2
