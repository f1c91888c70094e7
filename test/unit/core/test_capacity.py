"""The last line against overbooking."""

import re
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from unit.claims import GPU, claim, result
from unit.core.inventories import MIG, gpu, inventory

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.capacity import check_capacity
from hami_dra.core.errors import CapacityExceeded
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Inventory, Partition
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.resolve import resolve


def plan(made: ResourceClaim, node: Inventory | None = None) -> ClaimPlan:
    """Plan a claim on a node with two cards."""
    allocation = read_allocation(made)
    return plan_claim(allocation, resolve(allocation), node or inventory(2))


def other(number: int, **changes: Any) -> ClaimPlan:
    """Another claim's plan."""
    share = f"6b0f1d3e-1111-4222-8333-00000000000{number}"
    return plan(claim(result(shareID=share, **changes), name=f"other-{number}", uid=f"uid-{number}"))


def test_shares_fit_up_to_the_last_byte() -> None:
    """Five shares of 16 GiB fill a card of 80 GiB."""
    check_capacity(
        plan(claim(result(consumedCapacity={"memory": "16Gi"}))),
        [other(i, consumedCapacity={"memory": "16Gi"}) for i in range(4)],
        inventory(),
    )


def test_memory_above_the_card_is_refused_with_the_holders() -> None:
    """The message says what is free, what was asked, and who holds the rest."""
    with pytest.raises(CapacityExceeded, match="has 8Gi of 80Gi free, 16Gi asked; the rest is held by ml/other-1"):
        check_capacity(plan(claim(result())), [other(1, consumedCapacity={"memory": "72Gi"})], inventory())


def test_cores_above_the_card_are_refused() -> None:
    """Cores are booked like memory."""
    with pytest.raises(CapacityExceeded, match="20 of 100 cores free, 30 asked; the rest is held by"):
        check_capacity(
            plan(claim(result())), [other(1, consumedCapacity={"memory": "1Gi", "cores": "80"})], inventory()
        )


def test_one_claim_alone_can_be_too_much() -> None:
    """Two results of one claim add up too, and then nobody else holds anything."""
    twice = [result(f"r{i}", shareID=f"s{i}", consumedCapacity={"memory": "50Gi", "cores": "60"}) for i in range(2)]
    with pytest.raises(CapacityExceeded, match=r"100Gi asked$"):
        check_capacity(plan(claim(*twice)), [], inventory())
    cores = [result(f"r{i}", shareID=f"s{i}", consumedCapacity={"memory": "1Gi", "cores": "60"}) for i in range(2)]
    with pytest.raises(CapacityExceeded, match=r"120 asked$"):
        check_capacity(plan(claim(*cores)), [], inventory())


@pytest.mark.parametrize("first_is_whole", [True, False])
def test_a_whole_device_is_not_shared(first_is_whole: bool) -> None:
    """Whoever comes second is refused: dedicated over shared, and shared over dedicated."""
    whole, shared = {"shareID": None, "consumedCapacity": None}, {"consumedCapacity": {"memory": "1Gi"}}
    first, second = (whole, shared) if first_is_whole else (shared, whole)
    holder = plan(claim(result(**first), name="first", uid="uid-first"))
    with pytest.raises(CapacityExceeded, match="in use by ml/first"):
        check_capacity(plan(claim(result(**second))), [holder], inventory())


def test_the_claim_itself_is_not_counted_twice() -> None:
    """A retry of the same claim sees its own record and fits."""
    mine = plan(claim(result(consumedCapacity={"memory": "60Gi"})))
    check_capacity(mine, [mine], inventory())


def test_admin_access_consumes_nothing() -> None:
    """A monitor sees a full card, and a card with a monitor is still free."""
    full = other(1, consumedCapacity={"memory": "80Gi", "cores": "100"})
    monitor = plan(claim(result(adminAccess=True)))
    check_capacity(monitor, [full], inventory())
    check_capacity(full, [monitor], inventory())


def test_devices_that_vanished_are_not_checked() -> None:
    """Capacity is a question for devices that are here."""
    check_capacity(plan(claim(result())), [], Inventory())


CUT = replace(inventory(), gpus=(gpu(mig=MIG),))


def held(device: str, number: int) -> ClaimPlan:
    """A claim that has a device of the cut card to itself."""
    made = result(device=device, shareID=None, consumedCapacity=None)
    return plan(claim(made, name=f"other-{number}", uid=f"uid-{number}"), CUT)


def placed(profile: str, start: int) -> str:
    """Name of a partition."""
    return Partition(gpu=DeviceName(GPU), profile=profile, start=start).name


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (("1g.10gb", 0), ("1g.10gb", 1)),
        (("2g.20gb", 0), ("1g.10gb", 2)),
        (("3g.40gb", 0), ("3g.40gb", 4)),
        (("3g.40gb", 4), ("2g.20gb", 2)),
    ],
)
def test_partitions_that_touch_are_side_by_side(there: tuple[str, int], new: tuple[str, int]) -> None:
    """In either order: the first memory slice of one comes behind the last of the other."""
    for first, second in ((there, new), (new, there)):
        check_capacity(held(placed(*second), 2), [held(placed(*first), 1)], CUT)


@pytest.mark.parametrize(
    ("there", "new"),
    [
        (("2g.20gb", 0), ("1g.10gb", 1)),
        (("3g.40gb", 0), ("1g.10gb", 3)),
        (("3g.40gb", 4), ("2g.20gb", 4)),
        (("7g.80gb", 0), ("1g.10gb", 6)),
        (("1g.10gb", 2), ("1g.10gb+me", 2)),
    ],
)
def test_partitions_that_need_the_same_memory_slice_exclude_each_other(
    there: tuple[str, int], new: tuple[str, int]
) -> None:
    """In either order; the message names both."""
    for first, second in ((there, new), (new, there)):
        words = re.escape(
            f"device {placed(*second)} cannot be used beside {placed(*first)}, which is in use by ml/other-1"
        )
        with pytest.raises(CapacityExceeded, match=words):
            check_capacity(held(placed(*second), 2), [held(placed(*first), 1)], CUT)


@pytest.mark.parametrize(
    ("there", "new"),
    list(permutations((GPU, placed("1g.10gb", 0), f"{GPU}-share-0"), 2)),
    ids=lambda name: name[17:] or "card",
)
def test_a_card_is_used_in_one_form(there: str, new: str) -> None:
    """As one device, in partitions or in fixed shares."""
    with pytest.raises(CapacityExceeded, match=f"{new} cannot be used beside {there}, which is in use by ml/other-1"):
        check_capacity(held(new, 2), [held(there, 1)], CUT)


def test_of_many_holders_five_are_named() -> None:
    """An Event has room for a kibibyte."""
    holders = [other(number, consumedCapacity={"memory": "10Gi"}) for number in range(8)]
    for count, words in (
        (5, r"ml/other-0, .*, ml/other-4$"),
        (6, r"ml/other-4 and 1 others$"),
        (8, "ml/other-4 and 3 others"),
    ):
        with pytest.raises(CapacityExceeded, match=words):
            check_capacity(plan(claim(result(consumedCapacity={"memory": "80Gi"}))), holders[:count], inventory())
