"""The cluster-wide objects: RBAC to the letter, the admission policy, the DeviceClasses, labels."""

from collections.abc import Mapping
from typing import Any

import yaml

from hacklib.deployment.helm import CHART, NAMESPACE, Helm, app_version
from hami_dra.api.names import DRIVER, POOL_SUFFIX
from hami_dra.api.nodeconfig import decode_node_config
from hami_dra.api.opaque import decode
from hami_dra.core.doctor.rights import account_rights
from hami_dra.core.doctor.view import installed


def _one(helm: Helm, kind: str, name: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    objects = helm.template(values=values or {})
    return next(item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))


def _rules(role: dict[str, Any]) -> set[tuple[str, str, str, str]]:
    """(group, resource, verb, resource name or *) of every rule."""
    return {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", ["*"])
    }


def _expand(group: str, resource: str, verbs: str, name: str = "*") -> set[tuple[str, str, str, str]]:
    return {(group, resource, verb, name) for verb in verbs.split()}


def test_the_node_plugin_may_do_this_and_nothing_else(helm: Helm) -> None:
    """RBAC of the node plugin, to the letter: no secrets, no pods, nodes only to read, one ConfigMap."""
    assert _rules(_one(helm, "ClusterRole", "hami-dra-node")) == (
        _expand("resource.k8s.io", "resourceslices", "get list watch create update patch delete")
        | _expand("resource.k8s.io", "resourceclaims", "get")
        | _expand("resource.k8s.io", "resourceclaims/status", "get patch")
        | _expand(
            "resource.k8s.io", "resourceclaims/driver", "associated-node:patch associated-node:update", "gpu.hami.io"
        )
        | _expand("", "nodes", "get list watch")
        | _expand("", "events", "create patch")
    )
    role = _one(helm, "Role", "hami-dra-node")
    assert role["metadata"]["namespace"] == NAMESPACE
    assert _rules(role) == _expand("", "configmaps", "get list watch", "hami-dra-node")


def test_the_controller_may_do_this_and_nothing_else(helm: Helm) -> None:
    """RBAC of the controller, to the letter; its lease lives in its own namespace."""
    assert _rules(_one(helm, "ClusterRole", "hami-dra-controller")) == (
        _expand("resource.k8s.io", "resourceclaims", "get list watch")
        | _expand("resource.k8s.io", "resourceclaims/status", "patch")
        | _expand(
            "resource.k8s.io", "resourceclaims/driver", "arbitrary-node:patch arbitrary-node:update", "gpu.hami.io"
        )
        | _expand("", "events", "create patch")
    )
    role = _one(helm, "Role", "hami-dra-controller")
    assert role["metadata"]["namespace"] == NAMESPACE
    assert _rules(role) == (
        _expand("coordination.k8s.io", "leases", "create")
        | _expand("coordination.k8s.io", "leases", "get update", "hami-dra-controller")
    )


def test_the_doctor_asks_for_the_rights_that_the_chart_grants(helm: Helm) -> None:
    """Whatever the objects are called: none less, which would hide what lacks, and none more, which would cry wolf."""
    objects = helm.template(values={"fullnameOverride": "x", "node": {"config": {"configMap": "y"}}})
    found = installed([item for item in objects if item["kind"] in {"DaemonSet", "Deployment"}])
    asked = account_rights(found, namespace=NAMESPACE)
    assert set(asked) == {"x-node", "x-controller"}
    for account, rights in asked.items():
        roles = [item for item in objects if item["kind"] in {"ClusterRole", "Role"}]
        granted = {rule for role in roles if role["metadata"]["name"] == account for rule in _rules(role)}
        assert {(it.group, it.resource, it.verb, it.name or "*") for it in rights} == granted


def test_the_bindings_join_the_pods_accounts_to_their_roles(helm: Helm) -> None:
    """Account, role and pod of each component have one name, also under another release."""
    objects = helm.template(values={}, release="gpus")
    for component, kind in (("node", "DaemonSet"), ("controller", "Deployment")):
        name = f"gpus-hami-dra-{component}"
        pod = next(item for item in objects if item["kind"] == kind)["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == name
        subject = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
        for item in objects:
            if item["kind"].endswith("RoleBinding") and item["metadata"]["name"] == name:
                assert (item["subjects"], item["roleRef"]["name"]) == ([subject], name)
        assert any(item["kind"] == "ServiceAccount" and item["metadata"]["name"] == name for item in objects)


def test_the_policy_names_the_account_that_the_pods_run_as(helm: Helm) -> None:
    """A policy for another account would protect nothing and nobody would notice."""
    objects = helm.template(values={"fullnameOverride": "x"}, release="gpus")
    policy = next(item for item in objects if item["kind"] == "ValidatingAdmissionPolicy")
    account = next(item for item in objects if item["kind"] == "DaemonSet")["spec"]["template"]["spec"][
        "serviceAccountName"
    ]
    condition = policy["spec"]["matchConditions"][0]["expression"]
    assert condition == f'request.userInfo.username == "system:serviceaccount:{NAMESPACE}:{account}"'


def test_the_policy_fails_closed_on_every_write_of_every_version(helm: Helm) -> None:
    """Create, update and delete of slices, in all served versions, denied when the policy cannot be evaluated."""
    policy = _one(helm, "ValidatingAdmissionPolicy", "hami-dra-node")["spec"]
    assert policy["failurePolicy"] == "Fail"
    assert policy["matchConstraints"]["resourceRules"] == [
        {
            "apiGroups": ["resource.k8s.io"],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": ["resourceslices"],
        }
    ]
    binding = _one(helm, "ValidatingAdmissionPolicyBinding", "hami-dra-node")["spec"]
    assert binding == {"policyName": "hami-dra-node", "validationActions": ["Deny"]}


def test_the_policy_speaks_of_the_drivers_names(helm: Helm) -> None:
    """Driver, node, pool and the old object are all looked at (what they do is shown on a real API server)."""
    policy = _one(helm, "ValidatingAdmissionPolicy", "hami-dra-node")["spec"]
    variables = {item["name"]: item["expression"] for item in policy["variables"]}
    assert "authentication.kubernetes.io/node-name" in variables["node"]
    assert "oldObject.spec" in variables["specs"]
    expressions = " ".join(item["expression"] for item in policy["validations"])
    for fragment in (f"spec.driver == '{DRIVER}'", "spec.?nodeName", f"variables.node + '/{POOL_SUFFIX}'"):
        assert fragment in expressions


def test_the_classes_are_safe_on_foreign_devices(helm: Helm) -> None:
    """The driver is asked for first in every class, so that no attribute of ours is read from another's device."""
    extra = [{"name": "burst.gpu.hami.io", "selectors": ["device.capacity['gpu.hami.io'].memory.isGreaterThan(1)"]}]
    objects = helm.template(values={"deviceClasses": {"extra": extra}})
    classes = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "DeviceClass"}
    assert set(classes) == {"gpu.hami.io", "nvidia.gpu.hami.io", "amd.gpu.hami.io", "burst.gpu.hami.io"}
    for spec in classes.values():
        (selector,) = spec["selectors"]
        assert selector["cel"]["expression"].startswith(f'device.driver == "{DRIVER}"')
    for vendor in ("nvidia", "amd"):
        (selector,) = classes[f"{vendor}.{DRIVER}"]["selectors"]
        assert selector["cel"]["expression"].endswith(
            f'device.attributes["{DRIVER}"].?vendor.orValue("") == "{vendor}"'
        )


def test_a_class_of_values_carries_a_config_that_the_driver_accepts(helm: Helm) -> None:
    """`config` of a class is a GpuConfig once rendered, and decodes strictly."""
    extra = {"name": "burst", "config": {"qos": "BurstShare", "priority": "Low"}, "extendedResourceName": "x.io/gpu"}
    spec = _one(helm, "DeviceClass", "burst", {"deviceClasses": {"extra": [extra]}})["spec"]
    opaque = spec["config"][0]["opaque"]
    assert opaque["driver"] == DRIVER
    assert decode(opaque["parameters"]).qos == "BurstShare"
    assert spec["extendedResourceName"] == "x.io/gpu"


def test_the_node_configuration_is_what_the_values_say(helm: Helm) -> None:
    """What is rendered decodes strictly, labels that look like something else too."""
    entry = {
        "name": "training",
        "nodeSelector": {"matchLabels": {"gpu": "yes", "rack": "010"}},
        "scaling": {"memoryPercent": 150},
        "defaults": {"memory": 1 << 33},
    }
    text = _one(helm, "ConfigMap", "hami-dra-node", {"node": {"config": {"entries": [entry]}}})["data"]["config.yaml"]
    (decoded,) = decode_node_config(text).entries
    assert decoded.node_selector is not None
    assert decoded.node_selector.match_labels == {"gpu": "yes", "rack": "010"}
    assert (decoded.name, decoded.slots) == ("training", None)
    assert decoded.defaults is not None
    assert decoded.defaults.memory == 1 << 33
    assert decode_node_config(_one(helm, "ConfigMap", "hami-dra-node")["data"]["config.yaml"]).entries == ()


def test_the_node_configuration_can_be_somebody_elses(helm: Helm) -> None:
    """Name and key are values; the plugin reads that ConfigMap and may read no other, whoever makes it."""
    values = {"node": {"config": {"create": False, "configMap": "gpus", "key": "node.yaml"}}}
    objects = helm.template(values=values)
    assert [item for item in objects if item["kind"] == "ConfigMap"] == []
    assert _rules(_one(helm, "Role", "hami-dra-node", values)) == _expand("", "configmaps", "get list watch", "gpus")
    daemon_set = next(item for item in objects if item["kind"] == "DaemonSet")
    arguments = daemon_set["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--config-map=gpus", "--config-key=node.yaml"} <= set(arguments)


def test_classes_can_be_left_out(helm: Helm) -> None:
    """`deviceClasses.create: false` leaves all classes to whoever has them already."""
    objects = helm.template(values={"deviceClasses": {"create": False}})
    assert [item for item in objects if item["kind"] == "DeviceClass"] == []


def test_every_object_carries_the_standard_labels(helm: Helm) -> None:
    """Labels say what an object belongs to; selectors use only those that never change."""
    for item in helm.template(values={}):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "hami-dra", item["kind"]
        assert labels["app.kubernetes.io/version"] == app_version()
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        if item["kind"] in {"DaemonSet", "Deployment"}:
            assert set(item["spec"]["selector"]["matchLabels"]) == {
                f"app.kubernetes.io/{name}" for name in ("name", "instance", "component")
            }


def test_chart_and_package_have_one_version() -> None:
    """Chart, images and Python package are released together."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = (CHART.parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert chart["version"] == chart["appVersion"]
    assert f'version = "{chart["appVersion"]}"' in project
