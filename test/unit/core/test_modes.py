"""What can be combined with isolation TimeSlicing and MPS."""

from dataclasses import replace
from typing import Any

import pytest
from unit.claims import GPU, claim, config, gpu_config, result
from unit.core.inventories import MIG, inventory

from hami_dra.api.opaque import Interval, Isolation, Qos
from hami_dra.core.allocation import read_allocation
from hami_dra.core.capacity import check_capacity
from hami_dra.core.cdi import share_data
from hami_dra.core.devices import Offers
from hami_dra.core.errors import InvalidConfig, IsolationConflict
from hami_dra.core.inventory import Holder, Inventory
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.record import from_json, to_json
from hami_dra.core.resolve import resolve
from hami_dra.core.share import ShareSpec

NO_CORES = {"memory": "16Gi", "cores": "0"}
PARTITION = f"{GPU}-mig-1g-10gb-0"


def spec(*, cores: str = "0", device: str = GPU, share: str | None = "share-1", **fields: object) -> ShareSpec:
    """The one share of a claim with that configuration."""
    consumed = {"memory": "16Gi", "cores": cores} if share else None
    made = claim(
        result(device=device, shareID=share, consumedCapacity=consumed), configs=(config(gpu_config(**fields)),)
    )
    (found,) = resolve(read_allocation(made))
    return found


def cut(count: int = 1) -> Inventory:
    """A node whose cards can be cut."""
    node = inventory(count)
    return replace(node, gpus=tuple(replace(gpu, mig=MIG) for gpu in node.gpus))


def plan(
    name: str, *fields: dict[str, Any], node: Inventory | None = None, device: str = GPU, share: bool = True
) -> ClaimPlan:
    """A claim with a share for each configuration, on a node with cut cards."""
    names = [f"gpu-{index}" for index in range(len(fields))]
    consumed = {"memory": "4Gi", "cores": "0"}
    made = claim(
        *(
            result(each, device=device, shareID=f"{name}-{each}" if share else None, consumedCapacity=consumed)
            for each in names
        ),
        configs=tuple(
            config(gpu_config(**one), requests=[each]) for each, one in zip(names, fields, strict=True) if one
        ),
        name=name,
        uid=f"{name}-uid",
    )
    allocation = read_allocation(made)
    return plan_claim(allocation, resolve(allocation), node or cut(2))


def test_a_time_sliced_share_is_held_in_memory_alone() -> None:
    """No cores, no words about compute to the guard, turns as the driver has them; the status says so."""
    share = spec(isolation="TimeSlicing")
    assert (share.isolation, share.interval, share.qos) == (Isolation.TIME_SLICING, Interval.DEFAULT, Qos.BEST_EFFORT)
    data = share_data("uid", share)
    assert (data["limits"]["isolation"], data["limits"]["interval"]) == ("TimeSlicing", "Default")
    assert [mount["containerPath"].rsplit("/", 1)[1] for mount in data["containerEdits"]["mounts"]] == [
        "limits",
        "usage",
    ]
    (planned,) = plan("a", {"isolation": "TimeSlicing"}).shares
    assert planned.guarded
    assert planned.limits is not None
    assert (planned.limits.memory_limit_bytes, planned.limits.cores_percent) == (4 << 30, 0)


def test_the_claim_chooses_the_interval() -> None:
    """The claim's word goes before the class's; an empty object says nothing."""
    of_class = config(gpu_config(timeSlicing={"interval": "Short"}, isolation="TimeSlicing"), source="FromClass")
    for given, expected in (({}, Interval.SHORT), ({"interval": "Long"}, Interval.LONG)):
        made = claim(result(consumedCapacity=NO_CORES), configs=(of_class, config(gpu_config(timeSlicing=given))))
        (share,) = resolve(read_allocation(made))
        assert share.interval is expected


def test_the_ledger_keeps_the_interval() -> None:
    """A row says how its shares take turns; one of an older release says nothing."""
    sliced = plan("a", {"isolation": "TimeSlicing", "timeSlicing": {"interval": "Long"}})
    assert from_json(to_json(sliced)) == sliced
    plain = plan("a", {})
    assert from_json(to_json(plain).replace('"interval":null,', "")) == plain


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"timeSlicing": {"interval": "Long"}},
            "timeSlicing.interval needs isolation TimeSlicing, but isolation is Guard",
        ),
        ({"isolation": "TimeSlicing", "cores": "30"}, "the request has cores 30"),
        ({"isolation": "TimeSlicing", "qos": "FixedShare"}, "qos is FixedShare"),
        ({"isolation": "TimeSlicing", "qos": "BurstShare"}, "qos BurstShare is lent"),
        ({"isolation": "TimeSlicing", "priority": "High"}, "priority High is the guard's"),
        ({"isolation": "TimeSlicing", "memory": {"oversubscription": "1Gi"}}, "needs isolation Guard"),
        ({"isolation": "TimeSlicing", "device": PARTITION}, "is a partition"),
        (
            {"isolation": "TimeSlicing", "device": f"{GPU}-share-1", "share": None, "limits": {"memory": "1Gi"}},
            "leaves no cores",
        ),
        ({"isolation": "MPS", "cores": "30", "qos": "BurstShare"}, "qos BurstShare is lent"),
        ({"isolation": "MPS", "priority": "Low"}, "priority Low is the guard's"),
        ({"isolation": "MPS", "memory": {"oversubscription": "1Gi"}}, "needs isolation Guard"),
    ],
)
def test_what_cannot_be_combined_is_refused_with_the_reason(fields: dict[str, Any], said: str) -> None:
    """Each message names what is in the way, and what to drop."""
    with pytest.raises(InvalidConfig, match=said):
        spec(**fields)


def test_a_fixed_share_can_be_time_sliced() -> None:
    """It then has its memory and no cores."""
    share = spec(device=f"{GPU}-share-1", share=None, isolation="TimeSlicing")
    assert share.qos is Qos.BEST_EFFORT


def test_mps_keeps_the_cores_for_the_daemon() -> None:
    """The share has its cores, which the guard does not count; a partition can have it too."""
    assert (spec(cores="30", isolation="MPS").qos, spec(cores="30", isolation="MPS").cores_percent) == (
        Qos.FIXED_SHARE,
        30,
    )
    assert spec(device=PARTITION, isolation="MPS").isolation is Isolation.MPS


def test_one_request_has_one_share_with_mps() -> None:
    """A process can be the client of one daemon: two of them in one container are refused, in two requests they are not."""
    mps = config(gpu_config(isolation="MPS"))
    other = "gpu-0000-65-00-0"
    with pytest.raises(InvalidConfig, match=f"there are {GPU}, {other}"):
        resolve(read_allocation(claim(result(), result(device=other, shareID="share-2"), configs=(mps,))))
    apart = claim(result(), result("two", device=other, shareID="share-2"), configs=(mps,))
    assert len(resolve(read_allocation(apart))) == 2


def test_cards_that_cannot_are_named() -> None:
    """Neither mode is for cards whose shares the kernel holds; MPS wants Volta or newer, and to know which it is."""
    node = inventory(2)
    (card, *rest) = node.gpus
    kernel = replace(node, gpus=(replace(card, holder=Holder.KERNEL, vendor="amd"), *rest))
    for isolation in ("TimeSlicing", "MPS"):
        with pytest.raises(InvalidConfig, match=f"isolation {isolation} is NVIDIA's, but {GPU}.*vendor amd"):
            plan("a", {"isolation": isolation}, node=kernel)
    for capability, said in (((6, 1), "is 6.1"), (None, "is unknown")):
        old = replace(node, gpus=(replace(card, compute_capability=capability), *rest))
        with pytest.raises(InvalidConfig, match=f"compute capability 7.0.*{said}"):
            plan("a", {"isolation": "MPS"}, node=old)
        plan("a", {"isolation": "TimeSlicing"}, node=old)


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"isolation": "MPS"}, {}),
        ({}, {"isolation": "TimeSlicing"}),
        ({"isolation": "TimeSlicing"}, {"isolation": "MPS"}),
        (
            {"isolation": "TimeSlicing"},
            {"isolation": "TimeSlicing", "timeSlicing": {"interval": "Long"}},
        ),
    ],
)
def test_a_card_is_isolated_in_one_way_at_a_time(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Whoever comes second is refused, and hears who is there and how; in one claim it is the same."""
    node = inventory(2)
    with pytest.raises(IsolationConflict, match=r"claim ml/second: .* but ml/first uses"):
        check_capacity(plan("second", mine), [plan("first", theirs)], node)
    with pytest.raises(IsolationConflict):
        check_capacity(plan("second", mine, theirs), [], node)
    for same in (mine, theirs):
        check_capacity(plan("second", same), [plan("first", same)], node, offers=Offers())


def test_each_partition_is_isolated_for_itself() -> None:
    """MPS on one partition of a card says nothing about another."""
    other = f"{GPU}-mig-1g-10gb-1"
    check_capacity(plan("second", {"isolation": "MPS"}, device=PARTITION), [plan("first", {}, device=other)], cut())
    with pytest.raises(IsolationConflict):
        check_capacity(
            plan("second", {"isolation": "MPS"}, device=PARTITION), [plan("first", {}, device=PARTITION)], cut()
        )
