"""Another release comes, or the one of before comes back, while pods run; and a state that the next plugin cannot read."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.steady import TICK, exactly_once, goes_on, plugin_log, wait_registered_again
from e2e.support import NodeFiles, Tenant, all_run, eventually, plugin_processes, pod

from hacklib import image
from hacklib.deployment import Site
from hacklib.native.build import build as build_native
from hacklib.ui import Ui

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LIBRARY = "/usr/local/hami/libhami_guard.so"
SIZE = f"import os; print(os.path.getsize({LIBRARY!r}))"


@pytest.fixture
def other_release(site: Site, tmp_path: Path) -> Iterator[int]:
    """The product with another build of the guard, on all nodes; gives that build's size.  Afterwards the own one is back."""
    own = build_native(preset="release", ui=Ui()) / "libhami_guard.so"
    other = tmp_path / own.name
    shutil.copy(own, other)
    with other.open("ab") as file:
        file.write(b"another build")
    site.cluster.load_image(image.build("product", guard=other, ui=Ui()).archive)
    yield other.stat().st_size
    _install(site, own)


def _install(site: Site, guard: Path | None = None) -> None:
    """Have all node plugins started anew, by the image with that guard if one is given."""
    if guard is not None:
        site.cluster.load_image(image.build("product", guard=guard, ui=Ui()).archive)
    site.system.run("rollout", "restart", "daemonset/hami-dra-node")
    site.system.run("rollout", "status", "daemonset/hami-dra-node", "--timeout=120s", timeout_s=130)


def test_releases_come_and_go_under_a_running_pod(site: Site, tenant: Tenant, other_release: int) -> None:
    """Up and down again: what runs keeps its guard and goes on, what starts gets the new one, and each claim can end."""
    own = build_native(preset="release", ui=Ui()) / "libhami_guard.so"
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(tenant.template("share", memory="2Gi"), pod("before", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("before")
    _install(site)
    tenant.kubectl.apply(pod("between", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("between")
    goes_on(tenant, "before")
    exactly_once(tenant, files)
    _install(site, own)
    tenant.kubectl.apply(pod("after", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("after")
    for name in ("before", "between"):
        goes_on(tenant, name)
    sizes = {name: int(tenant.kubectl.python(name, SIZE)) for name in ("before", "between", "after")}
    assert sizes == {"before": own.stat().st_size, "between": other_release, "after": own.stat().st_size}
    exactly_once(tenant, files)
    tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=90)
    eventually(lambda: not files.prepared().everything, what="nothing left on the node", detail=files.prepared)


def test_a_ledger_that_is_not_one_is_made_again_and_kept_for_who_asks(site: Site, tenant: Tenant) -> None:
    """Garbage in its place keeps no plugin from starting: shares are found again, the running pod goes on, a new one starts."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(tenant.template("share", memory="2Gi"), pod("steady", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("steady")
    (process,) = plugin_processes(site, node=1)
    os.kill(process, signal.SIGSTOP)
    for path in files.state_dir.glob("ledger.db*"):
        path.write_bytes(b"no ledger")
    os.kill(process, signal.SIGKILL)
    wait_registered_again(site, killed=process)
    try:
        exactly_once(tenant, files)
        (kept,) = files.state_dir.glob("ledger.db.corrupt-*")
        assert kept.name in plugin_log(site)
    finally:
        for path in files.state_dir.glob("ledger.db.corrupt-*"):
            path.unlink()
    goes_on(tenant, "steady")
    tenant.kubectl.apply(pod("late", template="share", node=1))
    all_run(tenant, ["steady", "late"])
    exactly_once(tenant, files)
    tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=90)
    eventually(lambda: not files.prepared().everything, what="nothing left on the node", detail=files.prepared)
