"""Reading a claim's allocation."""

import pytest
from unit.claims import GPU, SHARE, claim, config, gpu_config, result

from hami_dra.api.k8s import AllocationResult
from hami_dra.core.allocation import read_allocation
from hami_dra.core.errors import ClaimChanged, ClaimNotAllocated


def test_a_share_is_read_with_what_the_scheduler_charged() -> None:
    """Memory in bytes, cores in percent and the share's key come from consumedCapacity and shareID."""
    (share,) = read_allocation(claim(result())).results
    assert (share.memory_bytes, share.cores_percent, share.key) == (16 << 30, 30, f"{GPU}-{SHARE}")


def test_a_whole_device_has_no_amounts() -> None:
    """Without consumedCapacity nothing is known of amounts, and the key is the device's name."""
    (share,) = read_allocation(claim(result(shareID=None, consumedCapacity=None))).results
    assert (share.memory_bytes, share.cores_percent, share.key, share.share_id) == (None, None, GPU, None)


def test_results_of_other_drivers_are_not_ours() -> None:
    """A claim with two drivers gives only our result."""
    allocation = read_allocation(claim(result("nic", driver="net.example.com"), result("gpu")))
    assert [share.request for share in allocation.results] == ["gpu"]


@pytest.mark.parametrize("results", [(), (result(driver="net.example.com"),)], ids=["none", "foreign"])
def test_a_claim_without_our_devices_is_not_allocated(results: tuple[AllocationResult, ...]) -> None:
    """Nothing of our driver is an error that names the claim."""
    with pytest.raises(ClaimNotAllocated, match="ml/train"):
        read_allocation(claim(*results))


def test_a_claim_without_status_is_not_allocated() -> None:
    """A fresh claim has no status at all."""
    fresh = claim()
    del fresh["status"]
    with pytest.raises(ClaimNotAllocated):
        read_allocation(fresh)


def test_a_claim_without_uid_is_refused() -> None:
    """Nothing may be kept under an empty UID."""
    with pytest.raises(ClaimChanged, match="no UID"):
        read_allocation(claim(result(), uid=""))


def test_an_unreadable_quantity_is_refused() -> None:
    """The message names the capacity and what was found."""
    with pytest.raises(ClaimChanged, match=r"memory.*16Quux"):
        read_allocation(claim(result(consumedCapacity={"memory": "16Quux"})))


def test_configuration_is_in_order_of_precedence() -> None:
    """FromClass comes before FromClaim, whatever the order in the list; within a source the order is kept."""
    configs = (
        config({"n": 1}, source="FromClaim"),
        config({"n": 2}, source="FromClass"),
        config({"n": 3}, source="FromClaim"),
    )
    (share,) = read_allocation(claim(result(), configs=configs)).results
    assert [entry.parameters["n"] for entry in share.configs] == [2, 1, 3]
    assert [entry.index for entry in share.configs] == [1, 0, 2]


@pytest.mark.parametrize(
    ("requests", "applies"),
    [(None, True), ([], True), (["gpu"], True), (["gpu/big"], True), (["gpu/small"], False), (["other"], False)],
)
def test_configuration_of_a_request_covers_its_subrequests(requests: list[str] | None, applies: bool) -> None:
    """`req` answers to `req/sub`; `req/other` does not (KEP-4816)."""
    allocation = read_allocation(claim(result("gpu/big"), configs=(config(gpu_config(), requests=requests),)))
    assert bool(allocation.results[0].configs) is applies
    assert allocation.results[0].base_request == "gpu"


def test_configuration_of_other_drivers_is_ignored() -> None:
    """An entry for another driver is not ours to decode."""
    foreign = {"source": "FromClaim", "opaque": {"driver": "net.example.com", "parameters": {"x": 1}}}
    (share,) = read_allocation(claim(result(), configs=(foreign,))).results
    assert share.configs == ()


def test_the_same_device_twice_has_two_keys() -> None:
    """Admin access may give a claim one device through two requests, without shareIDs."""
    twice = claim(*(result(name, shareID=None, consumedCapacity=None, adminAccess=True) for name in ("a", "b")))
    assert [share.key for share in read_allocation(twice).results] == [GPU, f"{GPU}-1"]


def test_tolerations_of_what_evicts_are_read() -> None:
    """By key; one without a key is of everything, one of another effect says nothing."""
    tolerations = [
        {"key": "a"},
        {"key": "b", "effect": "NoExecute"},
        {"key": "c", "effect": "NoSchedule"},
        {"effect": ""},
    ]
    (found,) = read_allocation(claim(result(tolerations=tolerations))).results
    assert found.tolerated == {"a", "b", ""}
    (found,) = read_allocation(claim(result())).results
    assert found.tolerated == frozenset()
