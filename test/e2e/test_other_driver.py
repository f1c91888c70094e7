"""Another driver's devices on the same node, in the same pod, in the same claim: none of ours, and in nobody's way."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.other_driver import DRIVER as OTHER
from e2e.support import NodeFiles, Tenant, all_run, condition, eventually, pod_with

from hacklib.deployment import KubeObject, Site
from hacklib.paths import REPOSITORY
from hami_dra.api.names import DRIVER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def other_driver(site: Site) -> Iterator[None]:
    """Devices of another driver on node-1, without one attribute, in slices that sort before ours."""
    objects: list[KubeObject] = [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {"name": OTHER},
            "spec": {"selectors": [{"cel": {"expression": f'device.driver == "{OTHER}"'}}]},
        },
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "0-other"},
            "spec": {
                "driver": OTHER,
                "nodeName": "node-1",
                "pool": {"name": "node-1", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": f"thing-{index}"} for index in range(4)],
            },
        },
    ]
    script = Path(__file__).with_name("other_driver.py")
    words = [*site.cluster.words(node=1), sys.executable, str(script)]
    with subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}) as process:
        try:
            site.kubectl.apply(*objects)
            yield
        finally:
            process.terminate()
            for item in objects:
                site.kubectl.delete(item["kind"], item["metadata"]["name"])


def _mixed_claim() -> KubeObject:
    requests = [
        {"name": "thing", "exactly": {"deviceClassName": OTHER}},
        {
            "name": "gpu",
            "exactly": {"deviceClassName": "nvidia.gpu.hami.io", "capacity": {"requests": {"memory": "4Gi"}}},
        },
    ]
    config = {"opaque": {"driver": OTHER, "parameters": {"kind": "NotOurs", "priorty": "whatever"}}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "mixed"},
        "spec": {"devices": {"requests": requests, "config": [config]}},
    }


def _other_claim() -> KubeObject:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "foreign"},
        "spec": {"devices": {"requests": [{"name": "thing", "exactly": {"deviceClassName": OTHER}}]}},
    }


@pytest.mark.usefixtures("other_driver")
def test_claims_of_two_drivers_live_in_one_pod(site: Site, tenant: Tenant) -> None:
    """One pod with our share, a foreign claim and a claim of both: each driver does its part and leaves the rest alone."""
    claims = {
        "share": {"resourceClaimTemplateName": "share"},
        "foreign": {"resourceClaimName": "foreign"},
        "mixed": {"resourceClaimName": "mixed"},
    }
    tenant.kubectl.apply(
        tenant.template("share", memory="4Gi"), _other_claim(), _mixed_claim(), pod_with(claims, name="both", node=1)
    )
    all_run(tenant, ["both"])
    files = NodeFiles(site, node=1)
    uids = {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in tenant.claims()}
    assert uids.pop("foreign") not in files.prepared().everything
    assert files.prepared().shares == dict.fromkeys(uids.values(), 1)

    def resolved() -> bool:
        return (condition(tenant.kubectl.get("resourceclaim", "mixed"), "Resolved") or {}).get("status") == "True"

    eventually(resolved, what="the mixed claim resolved")
    mixed = tenant.kubectl.get("resourceclaim", "mixed")
    assert {device["driver"] for device in mixed["status"]["devices"]} == {DRIVER}
    assert "devices" not in tenant.kubectl.get("resourceclaim", "foreign")["status"]
    script = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetMemoryInfo(n.nvmlDeviceGetHandleByIndex(0)).total >> 30)"
    assert tenant.kubectl.python("both", script) == "8\n"
    tenant.kubectl.delete("pod", "both", now=True)
    eventually(lambda: not files.prepared().everything, what="nothing of ours left", detail=files.prepared)
