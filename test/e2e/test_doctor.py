"""`hami-dra doctor` on a cluster that is well, and on one that is broken on purpose."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from e2e.support import Tenant, eventually, pod

from hacklib.deployment import NAMESPACE, Kubectl, Site
from hacklib.paths import REPOSITORY
from hacklib.versions import Capability
from hami_dra.core.doctor import CHECKS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OPEN = pytest.mark.needs(Capability.SHARES, Capability.PARTITIONS, Capability.TAINTS)
"""Where a gate is closed the doctor has something to say of a cluster that is well."""
Findings = list[Mapping[str, Any]]
DEPLOYMENT, CONFIG_MAP = "hami-dra-controller", "hami-dra-node"


def diagnose(site: Site) -> tuple[int, Findings]:
    """Exit status and findings, asked from outside of the cluster with an administrator's kubeconfig."""
    words = ("doctor", "--namespace", NAMESPACE, "--output", "json", "--kubeconfig", str(site.cluster.kubeconfig))
    ran = site.cluster.exec("env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", "hami_dra", *words, check=False)
    assert ran.returncode in {0, 1}, ran.stderr
    return ran.returncode, json.loads(ran.stdout)["findings"]


def diagnose_node(site: Site, *, node: int) -> Findings:
    """Findings of a node, asked within its node plugin's container."""
    said = site.system.exec(site.node_plugin(node), "hami-dra", "doctor", "--node", "--output", "json")
    findings: Findings = json.loads(said)["findings"]
    return findings


def odd(findings: Findings) -> Findings:
    """Whatever is not ok."""
    return [each for each in findings if each["level"] != "ok"]


def told(site: Site, check: str, level: str) -> str:
    """What a check says at that level, or nothing."""
    return " ".join(each["found"] for each in diagnose(site)[1] if (each["check"], each["level"]) == (check, level))


@pytest.fixture
def broken(site: Site) -> Iterator[Kubectl]:
    """A kubectl for breaking the product; at the end it is whole."""
    installed = site.system.get("configmap", CONFIG_MAP)["data"]
    replicas = site.system.get("deployment", DEPLOYMENT)["spec"]["replicas"]
    yield site.system
    site.system.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP}, "data": installed})
    site.system.run("scale", "deployment", DEPLOYMENT, f"--replicas={replicas}")
    site.system.run("rollout", "status", "deployment", DEPLOYMENT, "--timeout=60s", timeout_s=70)
    eventually(lambda: odd(diagnose(site)[1]) == [], what="nothing is odd", detail=lambda: diagnose(site))


@OPEN
def test_a_healthy_cluster_has_nothing_to_complain_of(site: Site, tenant: Tenant) -> None:
    """Status 0, every check ok, with a claim at work; and so from within both nodes."""
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("user", template="share", node=1))
    tenant.kubectl.wait_running("user")
    eventually(lambda: odd(diagnose(site)[1]) == [], what="nothing is odd", detail=lambda: diagnose(site))
    status, findings = diagnose(site)
    assert status == 0
    seen = [each["check"] for each in findings]
    for node in (1, 2):
        findings = diagnose_node(site, node=node)
        assert [each for each in odd(findings) if each["check"] != "kernel"] == []
        assert {each["check"] for each in findings}.isdisjoint(seen)
    assert set(seen) | {each["check"] for each in findings} == set(CHECKS)
    (ledger,) = (each["found"] for each in diagnose_node(site, node=1) if each["check"] == "ledger")
    assert ledger.startswith("sound: 1 claims prepared")


@OPEN
def test_a_controller_that_is_gone_is_missed(site: Site, broken: Kubectl) -> None:
    """With the command that brings it back."""
    broken.run("scale", "deployment", DEPLOYMENT, "--replicas=0")
    eventually(lambda: told(site, "controller", "problem"), what="the controller is missed", deadline_s=60)
    status, findings = diagnose(site)
    assert status == 1
    (problem,) = odd(findings)
    assert problem["found"].startswith(f"nobody holds lease {NAMESPACE}/{DEPLOYMENT}")
    assert problem["advice"] == f"kubectl -n {NAMESPACE} scale deployment {DEPLOYMENT} --replicas=1"


@OPEN
def test_a_wrong_node_configuration_is_quoted(site: Site, broken: Kubectl) -> None:
    """Field, value and what is allowed, before anybody reads a log."""
    text = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\nentries:\n- {slots: many}\n"
    metadata = {"name": CONFIG_MAP}
    broken.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": text}})
    found = told(site, "node-config", "problem")
    assert found.startswith(f'ConfigMap {NAMESPACE}/{CONFIG_MAP}: entries.0.slots: found "many"')


@pytest.mark.needs(Capability.SHARES)
def test_a_claim_that_waits_is_told_with_the_schedulers_words(site: Site, tenant: Tenant) -> None:
    """More than any card has: the pod and the reason are named once the claim is a minute old."""
    tenant.kubectl.apply(tenant.template("huge", memory="900Gi"), pod("waits", template="huge"))
    name = tenant.claim_of("waits")["metadata"]["name"]
    where = f"{tenant.kubectl.namespace}/{name}: is not allocated: "
    eventually(lambda: where in told(site, "claims", "warning"), what=f"{where!r} in the report", deadline_s=90)
    assert "(pod waits)" in told(site, "claims", "warning")
