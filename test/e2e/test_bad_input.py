"""What users get wrong is refused in words, on the claim and on its pod, and disturbs nobody else."""

import json
from collections.abc import Mapping

import pytest
from e2e.kubernetes import has
from e2e.support import Tenant, condition, pod, pod_with, share_template

from hacklib.deployment import KubeObject, wait_until
from hacklib.versions import Capability
from hami_dra.api.names import DRIVER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

HEAD = '"apiVersion":"gpu.hami.io/v1alpha1","kind":"GpuConfig"'
WRONG: Mapping[str, tuple[str, str]] = {
    "unknown-field": (f'{{{HEAD},"memoryGiB":4}}', "memoryGiB: unknown field"),
    "wrong-value": (f'{{{HEAD},"qos":"Fastest"}}', 'qos: found "Fastest"'),
    "wrong-version": ('{"apiVersion":"gpu.hami.io/v9","kind":"GpuConfig"}', 'apiVersion: found "gpu.hami.io/v9"'),
    "no-cores": (f'{{{HEAD},"qos":"BurstShare"}}', "qos BurstShare needs cores"),
    "duplicate-key": (f'{{{HEAD},"priority":"Low","priority":"High"}}', "priority: the key appears twice"),
}
"""Parameters as JSON text, by the name of the claim, and what must be said about them."""
WITH_SHARES = ("no-cores",)
"""What is wrong only where a request says how many cores it has: a part of a card has some in any case."""
MUTE = ("duplicate-key",)
"""Claims whose status nobody can write by server-side apply: the API server finds other bytes in the allocation afterwards."""


def _claim(name: str, parameters: str) -> str:
    """A claim as JSON text: a parser on the way would drop the duplicate key that a test is about."""
    exactly = {"deviceClassName": DRIVER, "capacity": {"requests": {"memory": "1Gi"}}}
    claim: KubeObject = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {
            "devices": {
                "requests": [{"name": "gpu", "exactly": exactly}],
                "config": [{"opaque": {"driver": DRIVER, "parameters": "PARAMETERS"}}],
            }
        },
    }
    return json.dumps(claim).replace('"PARAMETERS"', parameters)


def _wait_said(tenant: Tenant, name: str, said: str, *, reason: str = "InvalidConfig") -> None:
    wait_until(
        lambda: any(said in event["message"] for event in tenant.events_of(name, reason=reason)),
        what=f"Event {reason} with {said!r} on {name}",
        detail=lambda: "\n".join(tenant.kubectl.last_events(30)),
    )


def _wait_resolved(tenant: Tenant, name: str) -> Mapping[str, str]:
    return wait_until(
        lambda: condition(tenant.kubectl.get("resourceclaim", name), "Resolved"), what=f"condition Resolved on {name}"
    )


def test_wrong_configurations_are_refused_in_words(tenant: Tenant) -> None:
    """Every mistake is named by an Event and, where it can be written, by Resolved=False; a good neighbour runs."""
    path = f"/apis/resource.k8s.io/v1/namespaces/{tenant.kubectl.namespace}/resourceclaims"
    wrong = {
        name: told for name, told in WRONG.items() if has(tenant.site, Capability.SHARES) or name not in WITH_SHARES
    }
    for name, (parameters, _) in wrong.items():
        tenant.kubectl.run("create", "--raw", path, "-f", "-", stdin=_claim(name, parameters))
    tenant.kubectl.apply(
        tenant.template("good", memory="1Gi"),
        pod("good", template="good"),
        *(pod_with({"gpu": {"resourceClaimName": name}}, name=name) for name in wrong),
    )
    for name, (_, said) in wrong.items():
        _wait_said(tenant, name, said)
        if name in MUTE:
            continue
        refused = _wait_resolved(tenant, name)
        assert (refused["status"], refused["reason"]) == ("False", "InvalidConfig"), name
        assert said in refused["message"]
    tenant.kubectl.wait_running("good")


def test_parameters_in_any_order_are_as_good(tenant: Tenant) -> None:
    """Typed clients send fields in an order of their own: such a claim works and says so like any other."""
    path = f"/apis/resource.k8s.io/v1/namespaces/{tenant.kubectl.namespace}/resourceclaims"
    parameters = '{"kind":"GpuConfig","apiVersion":"gpu.hami.io/v1alpha1","priority":"High"}'
    tenant.kubectl.run("create", "--raw", path, "-f", "-", stdin=_claim("typed", parameters))
    tenant.kubectl.apply(pod_with({"gpu": {"resourceClaimName": "typed"}}, name="typed"))
    tenant.kubectl.wait_running("typed")
    assert _wait_resolved(tenant, "typed")["status"] == "True"
    (device,) = tenant.kubectl.get("resourceclaim", "typed")["status"]["devices"]
    assert device["data"]["limits"]["priority"] == "High"


@pytest.mark.needs(Capability.SHARES)
def test_more_than_a_card_has_stays_pending(tenant: Tenant) -> None:
    """Cores above 100 and capacities that no card has are the scheduler's to refuse: the pods wait, with the reason."""
    templates = {"cores": share_template("cores", cores=150), "speed": share_template("speed", memory="1Gi")}
    exactly = templates["speed"]["spec"]["spec"]["devices"]["requests"][0]["exactly"]
    exactly["capacity"]["requests"] = {"speed": "9"}
    tenant.kubectl.apply(*templates.values(), *(pod(name, template=name) for name in templates))
    for name in templates:
        _wait_said(tenant, name, "", reason="FailedScheduling")
        assert tenant.kubectl.get("pod", name)["status"]["phase"] == "Pending"
