"""A card that an administrator cordons by a DeviceTaintRule: nothing of the product is asked, and nothing of it minds."""

from collections.abc import Iterator

import pytest
from e2e.kubernetes import applies, here
from e2e.support import Tenant, eventually, pod

from hacklib.deployment import Site
from hacklib.ui import Ui
from hacklib.versions import Capability
from hacklib.versions.configurations import NEWEST

pytestmark = [pytest.mark.cluster, pytest.mark.apart, pytest.mark.timeout(600)]

RULE = "maintenance"


@pytest.fixture(scope="module")
def ruled() -> Iterator[Site]:
    """A Kubernetes whose administrators may taint devices; one node with one card."""
    gates = {"DRADeviceTaintRules": True} if here().configuration.name == NEWEST else {}
    with here().running(name="e2e-cordon", cards=[[("A100", 1)]], feature_gates=gates, ui=Ui()) as site:
        applies(site, Capability.TAINT_RULES)
        site.install()
        yield site


def test_a_cordoned_card_is_emptied_gets_nothing_and_is_used_again_afterwards(ruled: Site) -> None:
    """The pod there is evicted, another waits for the rule to go, and the slice is what it was all the while."""
    (before,) = ruled.slices()
    (card,) = ruled.cards(1)
    served = next(
        line.split()[1]
        for line in ruled.kubectl.run("api-resources", "--api-group=resource.k8s.io", "--no-headers").splitlines()
        if line.startswith("devicetaintrules ")
    )
    rule = {
        "apiVersion": served,
        "kind": "DeviceTaintRule",
        "metadata": {"name": RULE},
        "spec": {
            "deviceSelector": {"driver": "gpu.hami.io", "pool": "node-1/gpu", "device": card.device},
            "taint": {"key": "example.com/maintenance", "value": "planned", "effect": "NoExecute"},
        },
    }
    with Tenant.of(ruled, name="cordon") as tenant:
        tenant.kubectl.apply(tenant.template("slice", memory="1Gi"), pod("first", template="slice"))
        tenant.kubectl.wait_running("first")
        ruled.kubectl.apply(rule)
        eventually(lambda: not tenant.kubectl.items("pods"), what="the pod is evicted", deadline_s=60)
        tenant.kubectl.apply(pod("second", template="slice"))

        def refused() -> bool:
            conditions = tenant.kubectl.get("pod", "second")["status"].get("conditions", [])
            return any(found["type"] == "PodScheduled" and found["status"] == "False" for found in conditions)

        eventually(refused, what="the second pod waits")
        ruled.kubectl.run("delete", "devicetaintrule", RULE)
        tenant.kubectl.wait_running("second")
    (after,) = ruled.slices()
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
