"""The last line against overbooking."""

from typing import Any

import pytest
from unit.claims import claim, result
from unit.core.inventories import inventory

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.capacity import check_capacity
from hami_dra.core.errors import CapacityExceeded
from hami_dra.core.inventory import Inventory
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
