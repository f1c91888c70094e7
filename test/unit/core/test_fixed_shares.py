"""Fixed shares and scaled cards: what a claim on them means, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.claims import claim, config, gpu_config, result
from unit.core.inventories import gpu, inventory

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.capacity import check_capacity
from hami_dra.core.cdi import share_data
from hami_dra.core.devices import Offers
from hami_dra.core.errors import CapacityExceeded, HamiDraError, InvalidConfig, UnknownDevice
from hami_dra.core.inventory import fixed_share_name
from hami_dra.core.layout import Layout
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.record import from_json, to_json
from hami_dra.core.resolve import resolve
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings

CARD = gpu().name


def offers(parts: int = 4, **settings: Any) -> Offers:
    """A node whose cards are cut into that many fixed shares."""
    chosen = CardSettings(mode=CardMode.FIXED_SHARES, fixed_shares=parts, **settings)
    return Offers(settings=NodeSettings(default=chosen))


def fixed(index: int = 0, *, name: str = "train", limits: dict[str, Any] | None = None, **fields: Any) -> ResourceClaim:
    """A claim that was given a fixed share."""
    said = {"limits": limits, **fields} if limits is not None else fields
    configs = (config(gpu_config(**said)),) if said else ()
    given = result(device=fixed_share_name(CARD, index), shareID=None, consumedCapacity=None)
    return claim(given, configs=configs, name=name, uid=f"{name}-uid")


def whole(name: str = "whole") -> ResourceClaim:
    """A claim that was given the card."""
    return claim(result(shareID=None, consumedCapacity=None), name=name, uid=f"{name}-uid")


def plan(made: ResourceClaim, offered: Offers | None = None) -> ClaimPlan:
    """What the claim means on a node with one card."""
    allocation = read_allocation(made)
    return plan_claim(allocation, resolve(allocation), inventory(), offers=offered or offers())


def test_a_fixed_share_is_held_to_its_part_of_the_card() -> None:
    """By the guard, without anybody asking for it, and the ledger knows."""
    mine = plan(fixed())
    limits = mine.shares[0].limits
    assert limits is not None
    assert (limits.memory_limit_bytes, limits.cores_percent, limits.qos) == (20 << 30, 25, "FixedShare")
    assert limits.device_uuid == gpu().uuid
    assert limits.device_memory_bytes == 80 << 30
    assert from_json(to_json(mine)) == mine


def test_a_fixed_share_can_be_asked_for_less() -> None:
    """`limits` of class and claim are merged field by field."""
    of_class = config(gpu_config(limits={"memory": "8Gi", "cores": 20}), source="FromClass")
    given = result(device=fixed_share_name(CARD, 0), shareID=None, consumedCapacity=None)
    mine = plan(claim(given, configs=(of_class, config(gpu_config(limits={"cores": 10})))))
    limits = mine.shares[0].limits
    assert limits is not None
    assert (limits.memory_limit_bytes, limits.cores_percent) == (8 << 30, 10)
    assert from_json(to_json(mine)) == mine
    data = share_data("uid", mine.shares[0].spec)["limits"]
    assert (data["memory"], data["cores"]) == ("8Gi", 10)


@pytest.mark.parametrize(
    ("said", "cores"), [({"qos": "BestEffort"}, 0), ({"limits": {"cores": 0}}, 0), ({"qos": "BurstShare"}, 25)]
)
def test_cores_of_a_fixed_share_follow_its_qos(said: dict[str, Any], cores: int) -> None:
    """Whoever wants none promised is promised none."""
    assert plan(fixed(**said)).shares[0].cores_percent == cores


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        (fixed(limits={"memory": "21Gi"}), CapacityExceeded, r"limits\.memory is 21Gi, but fixed share .* has 20Gi"),
        (fixed(limits={"cores": 26}), CapacityExceeded, r"limits\.cores is 26, but fixed share .* has 25"),
        (fixed(4), UnknownDevice, "has 4 fixed shares"),
        (fixed(isolation="None"), InvalidConfig, "is a fixed share of one; use isolation Guard"),
        (fixed(limits={"cores": 0}, qos="FixedShare"), InvalidConfig, r"limits\.cores is 0; raise it"),
        (fixed(limits={"cores": 10}, qos="BestEffort"), InvalidConfig, r"but limits\.cores is 10; drop one"),
        (
            claim(result(), configs=(config(gpu_config(limits={"memory": "1Gi"})),)),
            InvalidConfig,
            "limits are for fixed shares, but device gpu-0000-17-00-0 is none",
        ),
        (
            claim(result(device=f"{CARD}-mig-1g-10gb-0")),
            UnknownDevice,
            r"has no profile 1g\.10gb at memory slice 0; its profiles are none at all",
        ),
    ],
)
def test_what_a_fixed_share_cannot_be_is_refused(made: ResourceClaim, error: type[HamiDraError], message: str) -> None:
    """More than it has, nothing that holds it, a part that is not there; and limits where there is something to ask for."""
    with pytest.raises(error, match=message):
        plan(made)


def test_the_layout_says_how_large_a_part_is() -> None:
    """Settings that wait for the card to be free do not count yet."""
    waiting = Offers(
        settings=NodeSettings(default=CardSettings(fixed_shares=8)),
        layouts={CARD: Layout(mode=CardMode.FIXED_SHARES, parts=2)},
    )
    assert plan(fixed(), waiting).shares[0].memory_bytes == 40 << 30
    shared = Offers(settings=waiting.settings, layouts={CARD: Layout(mode=CardMode.SHARES, shared=True)})
    assert plan(fixed(), shared).shares[0].memory_bytes == 10 << 30
    left_out = Offers(settings=NodeSettings(cards={CARD: None}))
    assert plan(fixed(), left_out).shares[0].memory_bytes == 20 << 30


def test_fixed_shares_stand_side_by_side_and_not_beside_the_card() -> None:
    """Four fill the card; a fifth of another size, a share and the whole card are refused, whoever comes first."""
    four = [plan(fixed(index, name=f"fixed-{index}")) for index in range(4)]
    for index, mine in enumerate(four):
        check_capacity(mine, four[:index], inventory(), offers=offers())
    with pytest.raises(CapacityExceeded, match=r"device gpu-0000-17-00-0 has 0 of 80Gi free, 10Gi asked"):
        check_capacity(plan(fixed(7, name="fifth"), offers(8)), four, inventory(), offers=offers())
    with pytest.raises(CapacityExceeded, match=r"cannot be used beside .*-share-0, which is in use by ml/fixed-0"):
        check_capacity(plan(whole()), four[:1], inventory(), offers=offers())
    with pytest.raises(CapacityExceeded, match="cannot be used beside gpu-0000-17-00-0, which is in use by ml/whole"):
        check_capacity(four[0], [plan(whole())], inventory(), offers=offers())
    with pytest.raises(CapacityExceeded, match="allocated as a whole, but is in use by ml/fixed-0"):
        check_capacity(plan(fixed(0, name="second")), four[:1], inventory(), offers=offers())


def test_scaled_memory_is_checked_as_it_is_published() -> None:
    """Of 120 GiB promised on 80, no share is held to more than the card has."""
    scaled = Offers(settings=NodeSettings(default=CardSettings(memory_percent=150, cores_percent=200)))
    big = plan(claim(result(consumedCapacity={"memory": "100Gi", "cores": "100"})), scaled)
    assert big.shares[0].limits is not None
    assert big.shares[0].limits.memory_limit_bytes == 80 << 30
    second = claim(result(shareID="s2", consumedCapacity={"memory": "20Gi", "cores": "100"}), name="b", uid="b")
    check_capacity(plan(second, scaled), [big], inventory(), offers=scaled)
    third = claim(result(shareID="s3", consumedCapacity={"memory": "21Gi"}), name="c", uid="c")
    with pytest.raises(CapacityExceeded, match="has 20Gi of 120Gi free, 21Gi asked"):
        check_capacity(plan(third, scaled), [big], inventory(), offers=scaled)


def test_a_whole_card_of_which_less_is_offered_is_held_to_that() -> None:
    """The guard holds it when it is asked for; without a guard there is nothing to hold."""
    scaled = Offers(settings=NodeSettings(default=CardSettings(memory_percent=50)))
    guarded = claim(result(shareID=None, consumedCapacity=None), configs=(config(gpu_config(isolation="Guard")),))
    assert plan(guarded, scaled).shares[0].memory_bytes == 40 << 30
    check_capacity(plan(guarded, scaled), [], inventory(), offers=scaled)


@given(
    parts=st.integers(1, 16),
    percent=st.integers(10, 300),
    chosen=st.lists(st.integers(0, 15), unique=True, max_size=16),
)
def test_all_fixed_shares_of_a_card_always_fit(parts: int, percent: int, chosen: list[int]) -> None:
    """However the card is scaled and cut, in whatever order they are taken."""
    offered = offers(parts, memory_percent=percent, cores_percent=percent)
    plans: list[ClaimPlan] = []
    for index in [each for each in chosen if each < parts]:
        mine = plan(fixed(index, name=f"fixed-{index}"), offered)
        check_capacity(mine, plans, inventory(), offers=offered)
        plans.append(mine)
