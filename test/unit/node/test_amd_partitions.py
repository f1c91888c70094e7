"""Claims for partitions of AMD's cards: the card is cut in Prepare, and each container gets its own render node."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from node_rig import Crash, Rig

from hami_dra.api.k8s import AllocationResult, ResourceClaim
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import InvalidConfig, PartitionRefused
from hami_dra.node.state import ClaimRef
from hami_dra.testing.amdgpu import MI300X, AmdCard, AmdMachine
from hami_dra.testing.gpus import POOL, allocated_claim
from hami_dra.vendors.amd import AmdDiscovery, Roots
from hami_dra.vendors.amd.partitions import AmdPartitions

PCI = "0000:c1:00.0"
CARD = "gpu-0000-c1-00-0"


@pytest.fixture
def machine(tmp_path: Path) -> AmdMachine:
    """An MI300X that is whole."""
    return AmdMachine(tmp_path / "machine", AmdCard(model=MI300X, pci=PCI, unique_id=1))


@pytest.fixture
def rig(tmp_path: Path, machine: AmdMachine) -> Iterator[Rig]:
    """A node with that card, as discovery finds it."""
    roots = Roots(sysfs=machine.sysfs, devices=machine.root)
    partitioner = AmdPartitions(sysfs=machine.sysfs, device=roots.device, switch=machine.switch)
    rig = Rig(tmp_path, hardware=AmdDiscovery(roots).discover(), partitioner=partitioner)
    yield rig
    rig.close()


def claim(name: str, device: str, *, isolation: str = "") -> ResourceClaim:
    """A claim that got a device whole."""
    result: AllocationResult = {"request": "gpu", "driver": DRIVER, "pool": POOL, "device": device}
    parameters = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig", "isolation": isolation}
    config = [{"source": "FromClaim", "opaque": {"driver": DRIVER, "parameters": parameters}}] if isolation else None
    return allocated_claim(name, result, config=config)


def files(rig: Rig, reference: ClaimRef) -> list[str]:
    """What the claim's containers get of the machine's devices."""
    spec = json.loads(rig.cdi_file(reference.uid).read_text())
    edits = [spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])]
    return [mount["containerPath"] for edit in edits for mount in edit.get("mounts", [])]


def test_a_partition_is_its_render_node_and_no_more(rig: Rig, machine: AmdMachine) -> None:
    """The first claim cuts the card; another partition has another render node; the same claim again has the same."""
    first, second = rig.claims.add(claim("a", f"{CARD}-cpx-0")), rig.claims.add(claim("b", f"{CARD}-cpx-5"))
    for reference in (first, second, first):
        rig.prepare(reference)
    assert files(rig, first) == ["/dev/kfd", "/dev/dri/renderD128"]
    assert files(rig, second) == ["/dev/kfd", "/dev/dri/renderD133"]
    assert (machine.card(PCI).mode, machine.switches) == ("CPX", 1)


def test_the_card_is_joined_for_who_takes_it_whole(rig: Rig, machine: AmdMachine) -> None:
    """After the last partition is given back it stays cut, until a claim for the whole card comes."""
    partition, whole = rig.claims.add(claim("a", f"{CARD}-cpx-0")), rig.claims.add(claim("b", CARD))
    rig.prepare(partition)
    rig.unprepare(partition)
    assert machine.card(PCI).mode == "CPX"
    rig.prepare(whole)
    assert machine.card(PCI).mode == "SPX"
    assert files(rig, whole) == ["/dev/kfd", "/dev/dri/renderD128"]


def test_a_card_that_somebody_uses_is_not_cut(rig: Rig, machine: AmdMachine) -> None:
    """The claim fails with the kernel's reason and leaves nothing; it works once the card is idle."""
    machine.busy.add(PCI)
    reference = rig.claims.add(claim("a", f"{CARD}-cpx-0"))
    with pytest.raises(PartitionRefused, match="while a process uses it"):
        rig.prepare(reference)
    assert (rig.facts().ledger, rig.facts().cdi) == ({}, set())
    machine.busy.clear()
    rig.prepare(reference)


def test_nothing_holds_shares_of_a_partition(rig: Rig) -> None:
    """The guard is NVIDIA's, and the kernel knows whole cards only: the reason names the partition."""
    with pytest.raises(InvalidConfig, match=f"nothing on this node holds shares of {CARD}-cpx-0 .AMD"):
        rig.prepare(rig.claims.add(claim("a", f"{CARD}-cpx-0", isolation="Guard")))


@pytest.mark.parametrize("effect", ["ledger.begin done", "partitions.ensure done", "cdi.write done"])
def test_a_crash_while_a_card_is_cut_is_healed(rig: Rig, machine: AmdMachine, effect: str) -> None:
    """The next prepare finds the card as it is; nothing of the first is left."""
    reference = rig.claims.add(claim("a", f"{CARD}-cpx-2"))
    rig.crash_at(effect)
    with pytest.raises(Crash):
        rig.prepare(reference)
    rig.start()
    assert rig.facts().ledger == {}
    rig.prepare(reference)
    assert files(rig, reference) == ["/dev/kfd", "/dev/dri/renderD130"]
    assert machine.switches == 1
