"""`hami-dra top` from outside of the cluster, through the API server."""

import re
import sys

import pytest
from e2e.support import HOLD, Tenant, eventually, pod

from hacklib.deployment import NAMESPACE, Site
from hacklib.paths import REPOSITORY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_metrics_name_the_container_of_a_share(site: Site, tenant: Tenant) -> None:
    """Found by its processes, without a right to read pods; of a share that two containers use they name none."""
    both = pod("both", template="share", node=1)
    (first,) = both["spec"]["containers"]
    both["spec"]["containers"].append(first | {"name": "second"})
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("alone", template="share", node=1), both)
    for name in ("alone", "both"):
        tenant.kubectl.wait_running(name)
    page = f"/api/v1/namespaces/{NAMESPACE}/pods/{site.node_plugin(1)}:8080/proxy/metrics"

    def containers() -> dict[str, str]:
        lines = site.kubectl.run("get", "--raw", page).splitlines()
        found = (re.search(r"^hami_dra_share_memory_bytes\{(.*)\} ", line) for line in lines)
        labels = [dict(re.findall(r'(\w+)="([^"]*)"', match[1])) for match in found if match]
        return {each["pod"]: each["container"] for each in labels if each["namespace"] == tenant.kubectl.namespace}

    eventually(
        lambda: containers() == {"alone": "main", "both": ""}, what="containers in the metrics", detail=containers
    )


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
