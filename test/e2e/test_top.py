"""`hami-dra top` from outside of the cluster, through the API server."""

import sys

import pytest
from e2e.support import HOLD, Tenant, eventually, pod

from hacklib.deployment import NAMESPACE, Site
from hacklib.paths import REPOSITORY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_top_shows_what_a_pod_holds(site: Site, tenant: Tenant) -> None:
    """Of its limit, under its name, on each node that has a plugin."""
    tenant.kubectl.apply(
        tenant.template("share", memory="4Gi", cores=5),
        pod("holder", template="share", script=HOLD.format(gib=3), node=1),
    )
    tenant.kubectl.wait_line("holder", "CUDA_SUCCESS")
    words = ("top", "--namespace", NAMESPACE, "--once", "--interval", "0.5", "--kubeconfig", site.cluster.kubeconfig)

    def shown() -> str:
        return site.cluster.exec("env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "hami_dra", *words).stdout

    line = f"{tenant.kubectl.namespace}/holder gpu "
    eventually(lambda: line in shown(), what=f"{line!r} in top", detail=shown)
    lines = shown().splitlines()
    assert any(text.startswith("node-1: ") for text in lines)
    assert any(text.startswith("node-2: ") for text in lines)
    share = next(text for text in lines if line in text)
    assert "of 4.0 GiB" in share
    assert "of 5 %" in share
