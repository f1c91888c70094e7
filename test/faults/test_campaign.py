"""Random operations and random faults on a real node; `make soak` is the long form.

`HAMI_SOAK_OPERATIONS`, `HAMI_SOAK_PODS` and `HAMI_SOAK_SEED` make another campaign of it; a seed that failed fails again as
far as the moments allow.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from faults.campaign import Campaign
from faults.plan import rounds
from faults.strikes import mount_state

from hacklib.deployment import Site
from hacklib.ui import Ui

pytestmark = [pytest.mark.cluster]

_SHORT = "130"
"""A round of each fault."""
_PODS = "12"
_BATCH = 10
_LONG_BATCH = 100
_SLOTS = 64
_GATES = {"KubeletCrashLoopBackOffMax": True}


@pytest.fixture
def site() -> Iterator[Site]:
    """One node with one card, the state on a file system small enough to be filled; nobody waits long for anything."""
    with Site.up(name=f"faults-{os.getpid()}", cards=[[("A100", 1)]], feature_gates=_GATES, ui=Ui()) as site:
        mount_state(site)
        site.install(values={"slots": _SLOTS, "node": {"staleClaimGraceSeconds": 5}})
        yield site


@pytest.mark.timeout(900 if "HAMI_SOAK_OPERATIONS" not in os.environ else 0)
def test_everything_agrees_after_every_fault(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """After each heal ledger, CDI specs, share directories and living containers are the same, and no card is above its size."""
    operations, pods, seed = (
        int(os.environ.get(f"HAMI_SOAK_{name}", default))
        for name, default in (("OPERATIONS", _SHORT), ("PODS", _PODS), ("SEED", "1"))
    )
    long = operations > int(_SHORT)
    with ExitStack() as stack:
        stack.enter_context(capsys.disabled())
        stack.enter_context(site.cluster.network())
        campaign = Campaign(site, slots=_SLOTS, say=lambda line: print(line, flush=True))
        campaign.prepare()
        print(f"\nfault campaign, seed {seed}", flush=True)
        planned = rounds(seed, operations=operations, pods=pods, batch=_LONG_BATCH if long else _BATCH, orphans=long)
        for number, one in enumerate(planned, start=1):
            campaign.play(number, one)
        print(f"seed {seed}: {campaign.tally}", flush=True)
    assert campaign.tally.operations.total() == operations
