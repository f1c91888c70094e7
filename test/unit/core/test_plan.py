"""Plans: what a claim means on this node."""

from dataclasses import replace

import pytest
from unit.claims import GPU, UID, claim, config, gpu_config, result
from unit.core.inventories import gpu, inventory

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.errors import InvalidConfig, LedgerCorrupt, UnknownDevice
from hami_dra.core.inventory import Holder, Inventory
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.record import Entry, Phase, from_json, held_devices, to_json
from hami_dra.core.resolve import resolve


def plan(made: ResourceClaim, node: Inventory | None = None) -> ClaimPlan:
    """Plan a claim on a node with two cards."""
    allocation = read_allocation(made)
    return plan_claim(allocation, resolve(allocation), node or inventory(2))


def test_a_share_is_held_to_what_was_charged() -> None:
    """The limits are the charged memory and cores of the card with that UUID."""
    (share,) = plan(claim(result())).shares
    assert share.limits is not None
    assert (share.limits.memory_limit_bytes, share.limits.cores_percent) == (16 << 30, 30)
    assert share.limits.device_uuid == "GPU-00000000-0000-4000-8000-000000000000"


def test_a_whole_card_is_all_that_is_published() -> None:
    """A card of an odd size publishes whole mebibytes; who takes the card gets those, without a guard."""
    whole = plan(claim(result(shareID=None, consumedCapacity=None)), inventory(memory_bytes=(80 << 30) + 4095))
    assert (whole.shares[0].memory_bytes, whole.shares[0].limits) == (80 << 30, None)


def test_a_device_that_is_not_here_is_unknown() -> None:
    """The message says what the node has."""
    with pytest.raises(UnknownDevice, match=f"gpu-9.*{GPU}"):
        plan(claim(result(device="gpu-9")))


def test_a_node_without_devices_says_so() -> None:
    """An empty inventory is named as such."""
    with pytest.raises(UnknownDevice, match="no device at all"):
        plan(claim(result()), Inventory())


def test_isolation_none_is_for_whole_cards() -> None:
    """A part of a card without isolation would be no limit at all; the whole card may have none."""
    configs = (config(gpu_config(isolation="None")),)
    with pytest.raises(InvalidConfig, match="16Gi of 80Gi"):
        plan(claim(result(), configs=configs))
    whole = plan(claim(result(consumedCapacity={"memory": "80Gi", "cores": "0"}), configs=configs))
    assert whole.shares[0].limits is None


def test_a_share_of_a_card_of_which_nothing_holds_shares_is_refused() -> None:
    """The message names the card and says what to do; the whole card is given."""
    node = replace(inventory(), gpus=(replace(inventory().gpus[0], vendor="amd", holder=None),))
    allocation = read_allocation(claim(result()))
    with pytest.raises(InvalidConfig, match=r"nothing on this node holds shares of gpu-0000-17-00-0 .*, vendor amd.;"):
        plan_claim(allocation, resolve(allocation), node)
    allocation = read_allocation(claim(result(shareID=None, consumedCapacity=None)))
    (whole,) = plan_claim(allocation, resolve(allocation), node).shares
    assert whole.limits is None


def test_names_of_cdi_devices_carry_claim_device_and_share() -> None:
    """One name for each share, never reused by another claim."""
    mine = plan(claim(result()))
    assert mine.cdi_id(mine.shares[0]) == f"gpu.hami.io/claim={UID}-{mine.shares[0].spec.key}"


def test_a_record_is_read_back_as_it_was() -> None:
    """Shared and whole devices survive the ledger."""
    mine = plan(claim(result(), result("b", device="gpu-0000-65-00-0", shareID=None, consumedCapacity=None)))
    assert from_json(to_json(mine)) == mine


def test_oversubscription_reaches_the_guard_and_survives_the_ledger() -> None:
    """It is charged to nobody: the memory limit stays what the scheduler booked."""
    configs = (config(gpu_config(memory={"oversubscription": "8Gi"})),)
    mine = plan(claim(result(), configs=configs))
    limits = mine.shares[0].limits
    assert limits is not None
    assert (limits.memory_limit_bytes, limits.managed_limit_bytes) == (16 << 30, 8 << 30)
    assert from_json(to_json(mine)) == mine
    older = (
        to_json(mine)
        .replace('"memoryRegion":null,"partition":null', "")
        .replace(",}", "}")
        .replace('"pods":[],', "")
        .replace('"oversubscriptionBytes":8589934592,', "")
    )
    assert from_json(older).shares[0].spec.oversubscription_bytes == 0


def test_only_claims_of_this_boot_hold_their_devices() -> None:
    """After a reboot nothing is prepared any more; a claim that is being prepared counts."""
    mine = plan(claim(result()))
    other = plan(claim(result("b", device="gpu-0000-65-00-0")))
    entries = [Entry(phase=Phase.STARTED, boot="now", plan=mine), Entry(phase=Phase.COMPLETED, boot="then", plan=other)]
    assert held_devices(entries, boot="now") == {"gpu-0000-17-00-0"}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"namespace":"a","name":"b","uid":"c","shares":[{}]}'])
def test_a_broken_record_is_corrupt(text: str) -> None:
    """Whatever lies in the ledger, reading it ends in one kind of error."""
    with pytest.raises(LedgerCorrupt):
        from_json(text)


REGION = "drm/0000:17:00.0/vram"


def kernel_plan(made: ResourceClaim, *pods: str) -> ClaimPlan:
    """On a card whose shares the kernel holds, with these pods waiting for the claim."""
    node = Inventory(gpus=(replace(gpu(), vendor="amd", holder=Holder.KERNEL, memory_region=REGION),))
    made["status"]["reservedFor"] = [{"resource": "pods", "name": uid, "uid": uid} for uid in pods]
    return plan(made, node)


NO_CORES = {"memory": "16Gi", "cores": "0", "slots": "1"}


def test_the_kernel_holds_the_pod_that_has_the_claim() -> None:
    """The plan says which region of memory and which pod; one whole card is held by nobody, and no pod is named."""
    shared = kernel_plan(claim(result(consumedCapacity=NO_CORES)), "pod-1")
    assert (shared.shares[0].memory_region, shared.pods) == (REGION, ("pod-1",))
    assert not shared.shares[0].guarded
    whole = kernel_plan(claim(result(shareID=None, consumedCapacity=None)), "pod-1", "pod-2")
    assert (whole.shares[0].memory_region, whole.pods) == (None, ())


@pytest.mark.parametrize("pods", [(), ("pod-1", "pod-2")])
def test_a_claim_of_several_pods_cannot_be_held_by_the_kernel(pods: tuple[str, ...]) -> None:
    """Each of them would have the whole share."""
    words = f"claim ml/train: device {GPU} .* allows each pod, so that {len(pods)} pods .*resourceClaimTemplateName"
    with pytest.raises(InvalidConfig, match=words):
        kernel_plan(claim(result(consumedCapacity=NO_CORES)), *pods)


@pytest.mark.parametrize(
    ("consumed", "fields", "words"),
    [
        (NO_CORES | {"cores": "30"}, {}, "request gpu: .*vendor amd.*, but cores is 30; leave it out"),
        (NO_CORES, {"memory": {"oversubscription": "1Gi"}}, "but memory.oversubscription is 1073741824; leave it out"),
    ],
)
def test_the_kernel_knows_device_memory_only(consumed: dict[str, str], fields: dict[str, object], words: str) -> None:
    """What it cannot hold is refused instead of left unheld."""
    configs = (config(gpu_config(**fields)),) if fields else ()
    with pytest.raises(InvalidConfig, match=words):
        kernel_plan(claim(result(consumedCapacity=consumed), configs=configs), "pod-1")


def test_a_monitor_is_held_to_nothing() -> None:
    """It sees the card, with whatever number of pods."""
    monitor = kernel_plan(claim(result(adminAccess=True, consumedCapacity=NO_CORES)), "pod-1", "pod-2")
    assert (monitor.shares[0].memory_region, monitor.pods) == (None, ())
