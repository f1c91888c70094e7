"""One cluster for the whole session, a namespace for each test.

Node-1 has one simulated A100; node-2 has two, and keeps the product's state on a file system small enough to be filled.
Namespaces enforce the restricted Pod Security Standard: a pod with a GPU needs no privilege.  While a test is written,
`HAMI_DRA_E2E_CLUSTER=NAME` has the session use a cluster that is kept, and made first if it does not run.

The suite runs on every Kubernetes of `hacklib.versions`: `HAMI_DRA_E2E_CONFIGURATION` names one, `HAMI_DRA_E2E_RECORD` a file for
what came of it.  Where cards are not shared by capacity they are cut into parts of 4 GiB on node-1 and of 20 GiB on node-2, and
`Tenant.template` asks for less than a part.  A test that needs more than every configuration has says so with the mark `needs`,
or `lacks`, and is left out by what the API server keeps.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from e2e.kubernetes import PARTS, applies, here, missing, record
from e2e.support import Tenant

from hacklib.cluster import Cluster
from hacklib.deployment import Site, wait_until
from hacklib.ui import Ui


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Two nodes with three cards, the product installed with room for many tenants on a card."""
    kept = os.environ.get("HAMI_DRA_E2E_CLUSTER")
    if kept in Cluster.names():
        site = Site(Cluster.open(kept))
        record.server(missing(site))
        yield site
        return
    cards = [[("A100", 1)], [("A100", 2)]]
    with ExitStack() as stack:
        if kept:
            site = here().up(name=kept, cards=cards, ui=Ui())
        else:
            site = stack.enter_context(here().running(name="e2e", cards=cards, ui=Ui()))
        record.server(missing(site))
        site.cluster.exec("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", "/var/lib/hami-dra", node=2)
        # /dev/shm is the machine's own, and all nodes have it; /run is each node's.
        mps = {"enabled": True, "shmDir": "/run/hami-dra-shm"}
        node = {"config": {"entries": PARTS}, "staleClaimGraceSeconds": 5}
        site.install(values={"slots": 64, "controller": {"replicas": 2}, "mps": mps, "node": node})
        yield site


@pytest.fixture(autouse=True)
def _applies(request: pytest.FixtureRequest) -> None:
    """Leaves out a test whose marks do not fit to what the API server keeps."""
    needs = [capability for mark in request.node.iter_markers("needs") for capability in mark.args]
    lacks = [capability for mark in request.node.iter_markers("lacks") for capability in mark.args]
    if needs or lacks:
        applies(request.getfixturevalue("site"), *needs, lacks=lacks)


@pytest.fixture
def tenant(site: Site, request: pytest.FixtureRequest) -> Iterator[Tenant]:
    """A namespace of the test's own; at its end no pod of it is left and all cards are free again."""
    with Tenant.of(site, name=request.node.name) as tenant:
        yield tenant
    wait_until(
        lambda: all(card.used_bytes == 0 for node in (1, 2) for card in site.cards(node)), what="all cards free again"
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps the outcome of each test for the record."""
    record.outcome(report)


def pytest_sessionfinish() -> None:
    """Writes the record, if one is wanted."""
    record.write()
