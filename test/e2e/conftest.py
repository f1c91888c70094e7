"""One cluster of Kubernetes 1.36 for the whole session, a namespace for each test.

Node-1 has one simulated A100; node-2 has two, and keeps the product's state on a file system small enough to be filled.
Namespaces enforce the restricted Pod Security Standard: a pod with a GPU needs no privilege.  While a test is written,
`HAMI_DRA_E2E_CLUSTER=NAME` has the session use a cluster that is kept, and made first if it does not run.
"""

import os
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from e2e.support import Tenant

from hacklib.cluster import Cluster
from hacklib.deployment import Site, wait_until
from hacklib.ui import Ui


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Two nodes with three cards, the product installed with room for many tenants on a card."""
    kept = os.environ.get("HAMI_DRA_E2E_CLUSTER")
    if kept in Cluster.names():
        yield Site(Cluster.open(kept))
        return
    site = Site.up(name=kept or f"e2e-{os.getpid()}", cards=[[("A100", 1)], [("A100", 2)]], ui=Ui())
    with nullcontext() if kept else site:
        site.cluster.exec("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", "/var/lib/hami-dra", node=2)
        site.install(values={"slots": 64, "controller": {"replicas": 2}})
        yield site


@pytest.fixture
def tenant(site: Site, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A namespace of the test's own; at its end no pod of it is left and all cards are free again."""
    with Tenant.of(site, name=request.node.name) as tenant:
        yield tenant
    wait_until(
        lambda: all(card.used_bytes == 0 for node in (1, 2) for card in site.cards(node)), what="all cards free again"
    )
