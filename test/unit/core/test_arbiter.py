"""Who computes how much on a card, over time: the arbiter against a simulated card, and its edges."""

import math

import pytest

from hami_dra.api.opaque import Priority, Qos
from hami_dra.core.arbiter import CardState, Look, Truth, decide, is_contested
from hami_dra.testing.card import SimulatedCard, Tenant

BURST, BEST_EFFORT = Qos.BURST_SHARE, Qos.BEST_EFFORT
SECOND = 1_000_000_000


def look(key: str = "a", cores: int = 0, **changes: object) -> Look:
    """A share that wants nothing."""
    fields: dict[str, object] = {
        "qos": Qos.FIXED_SHARE if cores else BEST_EFFORT,
        "priority": Priority.NORMAL,
        "wanted": False,
        "throttled": False,
        "charged_ns": 0,
    }
    return Look(key=key, cores_percent=cores, **(fields | changes))  # type: ignore[arg-type] # keywords of Look


@pytest.mark.parametrize("cores", [10, 20, 30, 50, 70, 90])
@pytest.mark.parametrize("bias", [0.9, 1.0, 1.8])
def test_a_fixed_share_settles_within_two_seconds(cores: int, bias: float) -> None:
    """Whatever its guard believes, from the third second on it is within two points, and stays there."""
    card = SimulatedCard(Tenant(key="a", cores=cores, bias=min(bias, 100 / cores)))
    card.run(2.0)
    for _ in range(5):
        card.run(1.0)
        assert card.used("a", last_s=1.0) == pytest.approx(cores / 100, abs=0.025)
    assert card.used("a", last_s=4.0) == pytest.approx(cores / 100, abs=0.02)


@pytest.mark.parametrize("shares", [[10, 90], [30, 30, 40], [12] * 8])
def test_a_full_card_is_divided_as_promised(shares: list[int]) -> None:
    """Guards that err differently, beside each other: every share within two points over five seconds."""
    tenants = [Tenant(key=str(i), cores=cores, bias=1.0 + 0.1 * i) for i, cores in enumerate(shares)]
    card = SimulatedCard(*tenants)
    card.run(8.0)
    for tenant in tenants:
        assert card.used(tenant.key, last_s=5.0) == pytest.approx(tenant.cores / 100, abs=0.02)


def test_long_kernels_get_their_share() -> None:
    """Kernels of 200 ms beside short ones, both metered wrongly."""
    card = SimulatedCard(Tenant(key="a", cores=50, kernel_s=0.2, bias=1.3), Tenant(key="b", cores=50, bias=0.8))
    card.run(9.0)
    assert card.used("a", last_s=5.0) == pytest.approx(0.5, abs=0.02)
    assert card.used("b", last_s=5.0) == pytest.approx(0.5, abs=0.02)


def test_nothing_oscillates() -> None:
    """Once settled, no grant moves by more than a twentieth of itself."""
    tenants = [Tenant(key="a", cores=30, bias=1.6), Tenant(key="b", cores=20, qos=BURST), Tenant(key="c")]
    tenants[2].qos = BEST_EFFORT
    card = SimulatedCard(*tenants)
    card.run(4.0)
    for tenant in tenants:
        before = tenant.granted
        for _ in range(60):
            card.run(0.1)
            assert tenant.granted == pytest.approx(before, rel=0.06)


@pytest.mark.parametrize("lender", [Qos.FIXED_SHARE, BURST])
def test_idle_time_is_lent_and_returned_within_300_ms(lender: Qos) -> None:
    """A share of 60 % sleeps from 2 s to 4 s: a best-effort neighbour has its time meanwhile, and not a moment longer."""
    owner = Tenant(key="a", cores=60, qos=lender, demand=lambda now: 0.0 if 2.0 <= now < 4.0 else 1.0)
    neighbour = Tenant(key="b", qos=BEST_EFFORT)
    if lender is BURST:
        neighbour = Tenant(key="b", cores=40)
        neighbour.qos = BURST
    card = SimulatedCard(owner, neighbour)
    card.run(2.0)
    assert neighbour.granted == pytest.approx(400, abs=15)
    card.run(0.3)
    assert neighbour.granted == pytest.approx(1000, abs=50)
    card.run(1.7)
    assert card.used("b", last_s=1.0) == pytest.approx(1.0, abs=0.02)
    card.run(0.3)
    assert neighbour.granted == pytest.approx(400, abs=15)
    card.run(0.7)
    assert card.used("a", last_s=0.3) == pytest.approx(0.6, abs=0.03)


def test_a_low_tenant_makes_progress_next_to_a_high_one() -> None:
    """Nobody is starved for ever: a percent of the card is left even by a neighbour who takes all."""
    high = Tenant(key="a", qos=BEST_EFFORT, priority=Priority.HIGH)
    low = Tenant(key="b", qos=BEST_EFFORT, priority=Priority.LOW)
    card = SimulatedCard(high, low)
    card.run(3.0)
    assert card.used("b", last_s=2.0) >= 0.008
    assert card.used("a", last_s=2.0) >= 0.96


def test_a_burst_share_has_the_card_when_it_is_alone() -> None:
    """And gives back the half that a fixed share of 50 % needs."""
    card = SimulatedCard(Tenant(key="a", cores=30, qos=BURST), Tenant(key="b", cores=50, demand=lambda now: now >= 2.0))
    card.run(2.0)
    assert card.used("a", last_s=1.0) >= 0.98
    card.run(2.0)
    assert card.used("a", last_s=1.0) == pytest.approx(0.5, abs=0.02)


def test_moderate_tenants_lend_the_rest() -> None:
    """Who is promised 50 % and uses 20 is not in the way of others."""
    card = SimulatedCard(
        Tenant(key="a", cores=50, qos=BURST, demand=lambda _now: 0.2), Tenant(key="b", qos=BEST_EFFORT)
    )
    card.run(4.0)
    assert card.used("a", last_s=2.0) == pytest.approx(0.2, abs=0.01)
    assert card.used("b", last_s=2.0) >= 0.7


def test_a_kernel_of_seconds_is_not_taken_for_sleep() -> None:
    """It launches nothing for 1.5 s, but the driver sees it: its time is not lent away."""
    card = SimulatedCard(Tenant(key="a", cores=60, qos=BURST, kernel_s=1.5), Tenant(key="b", qos=BEST_EFFORT))
    card.run(3.0)
    lent = []
    for _ in range(20):
        card.run(0.1)
        lent.append(card.tenants["b"].granted)
    assert sum(lent) / len(lent) < 700


def test_without_figures_the_guards_word_holds() -> None:
    """Fixed shares are left alone, and idle time is still lent by what guards say."""
    card = SimulatedCard(Tenant(key="a", cores=30), Tenant(key="b", cores=20, qos=BURST), truth=False)
    card.run(3.0)
    assert card.tenants["a"].granted == 0
    assert card.used("b", last_s=1.0) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("elapsed_s", [0.1, 0.2])
@pytest.mark.parametrize(
    ("charged", "left"), [(0.0, 980), (0.2, 730), (0.3, 605), (1.5, 500)], ids=["nothing", "little", "more", "too much"]
)
def test_who_takes_less_than_promised_keeps_a_quarter_more_than_that(
    elapsed_s: float, charged: float, left: int
) -> None:
    """And two percent of the card; the hungry neighbour has the rest, however often the two are looked at."""
    state, grants = CardState(), dict[str, int]()
    looks = [
        look("a", 50, qos=BURST, wanted=True, charged_ns=round(charged * elapsed_s * SECOND)),
        look("b", 50, qos=BURST, wanted=True, throttled=True),
    ]
    for _ in range(60):
        state, grants = decide(state, looks, elapsed_s=elapsed_s, truth=None)
    assert grants == {"a": 500, "b": left}


def test_a_use_that_ends_is_forgotten_within_a_second_and_a_half() -> None:
    """It fades with a time constant of 0.4 s, at once when there is more."""
    busy, quiet = (look("a", 50, qos=BURST, wanted=True, charged_ns=ms * SECOND // 1000) for ms in (60, 0))
    state, _ = decide(CardState(), [busy], elapsed_s=0.1, truth=None)
    assert state.shares["a"].use == pytest.approx(0.6)
    for rounds in (4, 8):
        for _ in range(4):
            state, _ = decide(state, [quiet], elapsed_s=0.1, truth=None)
        assert state.shares["a"].use == pytest.approx(0.6 * math.exp(-rounds / 4))


def test_figures_that_do_not_see_a_share_are_not_believed() -> None:
    """Where its processes cannot be told, a share that computes looks idle: it is not raised for long."""
    card = SimulatedCard(Tenant(key="a", cores=30, visible=False))
    card.run(12.0)
    assert card.used("a", last_s=1.0) == pytest.approx(0.3, abs=0.06)


def test_figures_grow_old() -> None:
    """A driver that stops to answer leaves the last word for a while, then none."""
    card = SimulatedCard(Tenant(key="a", cores=30, bias=2.0))
    card.run(4.0)
    assert card.tenants["a"].granted > 500
    card._truth = False
    card.run(30.0)
    assert card.tenants["a"].granted == 0


@pytest.mark.parametrize(
    ("looks", "contested"),
    [
        ([], False),
        ([look()], False),
        ([look("a"), look("b")], False),
        ([look("a"), look("b", priority=Priority.LOW)], True),
        ([look("a"), look("b", 10)], True),
        ([look("a", 10)], True),
        ([look("a", 10, qos=BURST)], True),
    ],
)
def test_cards_that_need_no_words_get_none(looks: list[Look], *, contested: bool) -> None:
    """Equals without promises share a card as the driver does it, and cost nothing."""
    assert is_contested(looks, watched=True) is contested
    if not contested:
        assert decide(CardState(), looks, elapsed_s=0.1, truth=None) == (CardState(), {share.key: 0 for share in looks})


def test_fixed_shares_alone_need_no_words_where_nobody_watches() -> None:
    """There is nothing to lend and nothing to correct by."""
    fixed = [look("a", 30), look("b", 70, priority=Priority.HIGH)]
    assert not is_contested(fixed, watched=False)
    assert is_contested([*fixed, look("c")], watched=False)
    assert is_contested([look("a", 30, qos=BURST)], watched=False)


def test_others_on_the_card_are_no_reason_to_raise_everybody() -> None:
    """A process without a share takes half of the card: the shares divide what is left, and their factors stay."""
    state = CardState()
    looks = [look(key, 50, wanted=True, throttled=True, charged_ns=SECOND // 40) for key in ("a", "b")]
    truth = Truth(over_s=0.1, busy={"a": 0.25, "b": 0.25}, others=0.5)
    grants: dict[str, int] = {}
    for _ in range(100):
        state, grants = decide(state, looks, elapsed_s=0.1, truth=truth)
    assert grants == {"a": 500, "b": 500}


def test_a_share_that_went_is_forgotten() -> None:
    """State is kept for the shares of this round only."""
    state, _ = decide(CardState(), [look("a", 10), look("b", 20)], elapsed_s=0.1, truth=None)
    state, grants = decide(state, [look("b", 20)], elapsed_s=0.1, truth=None)
    assert set(state.shares) == set(grants) == {"b"}
