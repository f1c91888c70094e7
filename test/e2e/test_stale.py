"""What kubelet forgets: claims that stay prepared with nobody to unprepare them, until the node plugin asks whose they are."""

import pytest
from e2e.support import NodeFiles, Tenant, eventually, pod, share_template

from hacklib.deployment import Site

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_claim_that_went_while_kubelet_was_down_is_released(site: Site, tenant: Tenant) -> None:
    """A pod deleted by force, its claim after it, and a kubelet that lost its memory: the share goes when its processes have."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(share_template("share", memory="1Gi"), pod("gone", template="share", node=1))
    tenant.kubectl.wait_running("gone")
    uid = tenant.claim_of("gone")["metadata"]["uid"]
    site.cluster.kill("node-1/kubelet")
    try:
        tenant.kubectl.run("delete", "pod", "gone", "--grace-period=0", "--force")
        eventually(lambda: not tenant.claims(), what="the claim is gone too")
        assert uid in files.prepared().everything
        (site.cluster.spec.node(1).folder / "var-lib/kubelet/dra_manager_state").unlink()
    finally:
        site.cluster.start("node-1/kubelet")
    eventually(
        lambda: uid not in files.prepared().everything,
        what="nothing of the claim left",
        deadline_s=120,
        detail=lambda: (files.prepared(), site.system_story()),
    )
    said = site.system.logs(site.node_plugin(1))
    assert any("released a claim that kubelet forgot" in line and uid in line for line in said)
