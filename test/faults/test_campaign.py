"""Random operations and random faults on a real node; `make soak` is the long form.

`HAMI_SOAK_OPERATIONS`, `HAMI_SOAK_PODS` and `HAMI_SOAK_SEED` make another campaign of it; a seed that failed fails again as
far as the moments allow.
"""

import os
from contextlib import ExitStack

import pytest
from faults.campaign import Campaign
from faults.conftest import SLOTS
from faults.plan import rounds

from hacklib.deployment import Site

pytestmark = [pytest.mark.cluster]

_SHORT = "160"
"""A round of each fault."""
_PODS = "12"
_BATCH = 10
_LONG_BATCH = 100


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
        campaign = Campaign(site, slots=SLOTS, say=lambda line: print(line, flush=True))
        campaign.prepare()
        print(f"\nfault campaign, seed {seed}", flush=True)
        planned = rounds(seed, operations=operations, pods=pods, batch=_LONG_BATCH if long else _BATCH, orphans=long)
        for number, one in enumerate(planned, start=1):
            campaign.play(number, one)
        print(f"seed {seed}: {campaign.tally}", flush=True)
    assert campaign.tally.operations.total() == operations
