"""A card with a hundred shares: prepared through kubelet's calls, seen in the metrics, and gone without a trace."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from node_rig import Facts
from prometheus_client import generate_latest
from unit.node.test_watchdog import Bench, bench

from hami_dra.core.devices import Offers
from hami_dra.core.errors import CapacityExceeded
from hami_dra.core.settings import CardSettings, NodeSettings
from hami_dra.testing.gpus import allocated_claim, gpu, share_result

__all__ = ["bench"]


def test_a_card_with_a_hundred_shares(bench: Bench) -> None:
    """A hundred pods on one card: each share has its files, its limits and its metrics; one more does not fit."""
    bench.rig.offers = Offers(settings=NodeSettings(default=CardSettings(memory_percent=125, slots=100)))
    claims = [
        allocated_claim(f"c{number}", share_result(share_id=f"s{number}", memory_gib=1, cores=1))
        for number in range(100)
    ]
    refs = [bench.rig.claims.add(claim) for claim in claims]
    with ThreadPoolExecutor(16) as pool:
        prepared = list(pool.map(bench.rig.prepare, refs))
    assert len({each.devices[0].cdi_id for each in prepared}) == 100
    for each in prepared:
        bench.consumers.prepared(each)
    facts = bench.rig.facts()
    assert (len(facts.shares), len(facts.cdi), set(facts.ledger.values())) == (100, 100, {"Completed"})
    late = bench.rig.claims.add(allocated_claim("late", share_result(share_id="late", memory_gib=1, cores=1)))
    with pytest.raises(
        CapacityExceeded, match=r"0 of 100Gi free, 1Gi asked; the rest is held by (ml/c\d+, ){4}ml/c\d+ and 95 others$"
    ):
        bench.rig.prepare(late)
    bench.rounds(2)
    page = generate_latest(bench.registry).decode()
    assert page.count("\nhami_dra_share_memory_bytes{") == 100
    assert bench.metric("hami_dra_device_shares", device=gpu().name) == 100
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(bench.rig.unprepare, refs))
    assert bench.rig.facts() == Facts(shares=set(), cdi=set(), ledger={})
    bench.rounds(2)
    assert "hami_dra_share_memory_bytes{" not in generate_latest(bench.registry).decode()
