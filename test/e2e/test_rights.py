"""What the product's accounts may and may not do, on the API server that decides it."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from e2e.support import Tenant, plugin_processes, pod

from hacklib.deployment import Kubectl, Refused, Site
from hami_dra.api.names import DRIVER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def node_plugin(site: Site) -> Kubectl:
    """A kubectl with the pod-bound token of the plugin on node-1, as the plugin itself has it."""
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={site.node_plugin(1)}")
    token = site.system.run("create", "token", "hami-dra-node", *bound).strip()
    return site.kubectl.acting(f"--token={token}")


@pytest.fixture
def other_slice(site: Site) -> Iterator[str]:
    """A slice of another node."""
    site.kubectl.apply(_slice("others", node="node-9", pool="node-9/gpu"))
    yield "others"
    site.kubectl.delete("resourceslice", "others")


def _slice(name: str, *, pool: str, node: str | None = None, driver: str = DRIVER, **spec: Any) -> Mapping[str, Any]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": driver,
            "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0"}],
            **({"nodeName": node} if node else {}),
            **spec,
        },
    }


SELECTOR = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]}


@pytest.mark.parametrize(
    ("forged", "why"),
    [
        (_slice("forged", node="node-2", pool="node-2/gpu"), "own node only"),
        (_slice("forged", node="node-1", pool="node-2/gpu"), "pool node-1/gpu only"),
        (_slice("forged", node="node-1", pool="node-1/gpu", driver="gpu.example.com"), "driver gpu.hami.io only"),
        (_slice("forged", pool="node-1/gpu", allNodes=True), "own node only"),
        (_slice("forged", pool="node-1/gpu", nodeSelector=SELECTOR), "own node only"),
    ],
    ids=["node", "pool", "driver", "all-nodes", "selector"],
)
def test_a_node_plugin_cannot_forge_a_slice(node_plugin: Kubectl, forged: Mapping[str, Any], why: str) -> None:
    """A slice for another node, pool or driver, or for many nodes, is denied by the policy, in words."""
    with pytest.raises(Refused, match=why):
        node_plugin.run("create", "-f", "-", stdin=json.dumps(forged))


def test_a_node_plugin_cannot_touch_another_nodes_slice(node_plugin: Kubectl, other_slice: str) -> None:
    """Neither deleting nor changing is allowed on what lies on another node."""
    with pytest.raises(Refused, match="own node only"):
        node_plugin.run("delete", "resourceslice", other_slice)
    with pytest.raises(Refused, match="own node only"):
        node_plugin.run("label", "resourceslice", other_slice, "a=b")


def test_the_account_without_a_pod_is_nobody(site: Site, other_slice: str) -> None:
    """Whoever takes the account's name without a pod-bound token names no node, and is denied."""
    nobody = site.kubectl.acting("--as=system:serviceaccount:hami-system:hami-dra-node")
    with pytest.raises(Refused, match="names no node"):
        nobody.run("delete", "resourceslice", other_slice)


def test_a_node_plugin_may_write_its_own(node_plugin: Kubectl) -> None:
    """The policy is no wall around what the plugin is for."""
    own = _slice("own", node="node-1", pool="node-1/gpu")
    node_plugin.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(own))


@pytest.mark.parametrize("what", ["secrets", "pods", "configmaps"])
def test_the_accounts_read_nothing_else(site: Site, node_plugin: Kubectl, what: str) -> None:
    """Neither account can read what tenants keep in the cluster."""
    controller = site.kubectl.acting("--as=system:serviceaccount:hami-system:hami-dra-controller")
    for account in (node_plugin, controller):
        with pytest.raises(Refused, match="forbidden"):
            account.run("get", what, "--all-namespaces")


@pytest.mark.older
def test_the_rights_are_enough(site: Site, tenant: Tenant) -> None:
    """After a claim's whole life nobody in the product was ever told that something is forbidden."""
    begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("claimant", template="share"))
    tenant.kubectl.wait_running("claimant")
    for kind in ("Ready", "Resolved"):
        tenant.wait_condition("claimant", kind)
    tenant.kubectl.delete("pod", "claimant", now=True)
    for item in site.system.items("pods"):
        lines = site.system.logs(item["metadata"]["name"], f"--since-time={begun}")
        assert [line for line in lines if "forbidden" in line.lower() or '"status": 403' in line] == []


def test_the_node_plugin_runs_confined(site: Site) -> None:
    """Seen from the host, a node plugin has no capability, cannot gain one, and runs under a seccomp filter."""
    for node in (1, 2):
        (process,) = plugin_processes(site, node=node)
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
