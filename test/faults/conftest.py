"""The node on which everything breaks."""

import os
from collections.abc import Iterator

import pytest
from faults.clock import PluginClock
from faults.strikes import mount_state

from hacklib.deployment import Site
from hacklib.ui import Ui

SLOTS = 64
_GATES = {"KubeletCrashLoopBackOffMax": True}


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """One node with one card, the state on a file system small enough to be filled; nobody waits long for anything."""
    with Site.up(name=f"faults-{os.getpid()}", cards=[[("A100", 1)]], feature_gates=_GATES, ui=Ui()) as site:
        mount_state(site)
        site.install(values={"slots": SLOTS, "node": {"staleClaimGraceSeconds": 5}})
        PluginClock(site).install()
        yield site
