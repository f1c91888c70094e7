"""Device metadata files (KEP-5304) in real containers."""

import json

import pytest
from e2e.support import NodeFiles, Tenant, eventually, pod_with

from hacklib.deployment import Refused, Site
from hacklib.versions import Capability
from hami_dra.api.names import CONFIG_API_VERSION, CONFIG_KIND, DRIVER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600), pytest.mark.needs(Capability.SHARES)]

ROOT = "/var/run/kubernetes.io/dra-device-attributes"


def test_example_15_a_pod_reads_what_it_was_given(site: Site, tenant: Tenant) -> None:
    """The card as its slice says it, the share as the scheduler charged it; gone with the claim."""
    tenant.example("15-device-metadata")
    lines = tenant.kubectl.wait_line("described", "16384 MiB")
    assert lines[-1] == "16384 MiB and 30 percent of it, held by Guard"
    claim = tenant.claim_of("described")
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    name, pool = result["device"], result["pool"]
    slices = [item["spec"] for item in site.slices() if item["spec"]["pool"]["name"] == pool]
    (card,) = (device for item in slices for device in item.get("devices", []) if device["name"] == name)
    address = card["attributes"]["resource.kubernetes.io/pciBusID"]["string"]
    assert lines[0].startswith(f"{name} on {address}, an A100")
    node = int(pool.partition("/")[0].rpartition("-")[2])
    files = NodeFiles(site, node=node).state_dir / "claims" / claim["metadata"]["uid"]
    written = json.loads((files / "metadata-card.json").read_text(encoding="utf-8"))
    assert written["metadata"]["uid"] == claim["metadata"]["uid"]
    published = {key: value for key, value in card["attributes"].items() if key != "mode"}
    (device,) = written["requests"][0]["devices"]
    assert {key: device["attributes"].get(key) for key in published} == published
    tenant.kubectl.delete("pod", "described", now=True)
    eventually(lambda: not files.exists(), what="the files of the claim are gone")


def test_a_container_cannot_write_what_it_reads_and_sees_no_other_request(tenant: Tenant) -> None:
    """A claim by its own name, two requests of which one asks: one file, read-only."""
    parameters = {"apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND, "deviceMetadata": True}
    requests = [
        {"name": name, "exactly": {"deviceClassName": DRIVER, "capacity": {"requests": {"memory": "1Gi"}}}}
        for name in ("told", "untold")
    ]
    config = [{"requests": ["told"], "opaque": {"driver": DRIVER, "parameters": parameters}}]
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "mine"},
        "spec": {"devices": {"requests": requests, "config": config}},
    }
    tenant.kubectl.apply(claim, pod_with({"gpu": {"resourceClaimName": "mine"}}, name="reader"))
    tenant.kubectl.wait_running("reader")
    path = f"{ROOT}/resourceclaims/mine/told/{DRIVER}-metadata.json"
    there = tenant.kubectl.python("reader", f"import pathlib; print(*pathlib.Path({ROOT!r}).rglob('*.json'))")
    assert there.split() == [path]
    written = json.loads(tenant.kubectl.python("reader", f"print(open({path!r}).read())"))
    assert written["requests"][0]["name"] == "told"
    assert "podClaimName" not in written
    with pytest.raises(Refused, match=r"Read-only|Permission denied"):
        tenant.kubectl.python("reader", f"open({path!r}, 'w')")
