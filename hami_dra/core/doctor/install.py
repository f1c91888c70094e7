"""What the chart installed: classes, controller, node plugins, policy, node configuration."""

from datetime import datetime

from hami_dra.api.k8s import JsonObject
from hami_dra.api.names import DRIVER
from hami_dra.api.nodeconfig import decode_node_config
from hami_dra.api.opaque import decode
from hami_dra.api.strict import ConfigError
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.view import ClusterView, Installed, Unknown, Workload, installed

__all__ = ["is_our_class", "judge_classes", "judge_config", "judge_controller", "judge_policy"]

_LEASE_SLACK_S = 60.0
"""How far the clocks of this machine and of the leader may be apart."""


def judge_classes(view: ClusterView) -> list[Finding]:
    """Whether there are any, and whether their configuration can be read."""
    check = "device-classes"
    if isinstance(view.classes, Unknown):
        return [warning(check, f"not looked at: {view.classes.why}", "ask as somebody who may list deviceclasses")]
    ours = [each for each in view.classes if is_our_class(each)]
    names = sorted(each["metadata"]["name"] for each in ours)
    refused = [finding for each in ours for finding in _refused(each)]
    if not names:
        advice = "install the chart with deviceClasses.create=true: claims have no class to name"
        return [problem(check, f"no DeviceClass selects devices of {DRIVER}", advice)]
    if DRIVER not in names:
        advice = f"install the chart with deviceClasses.create=true if claims are to name {DRIVER}"
        refused.append(warning(check, f"{', '.join(names)}, but not {DRIVER}", advice))
    return refused or [ok(check, ", ".join(names))]


def is_our_class(device_class: JsonObject) -> bool:
    """Whether it selects devices of this driver, told by its name or its expressions."""
    name = device_class["metadata"]["name"]
    selectors = (device_class.get("spec") or {}).get("selectors") or []
    return f".{name}".endswith(f".{DRIVER}") or any(
        f'"{DRIVER}"' in (each.get("cel") or {}).get("expression", "") for each in selectors
    )


def _refused(device_class: JsonObject) -> list[Finding]:
    findings = []
    for config in (device_class.get("spec") or {}).get("config") or []:
        opaque = config.get("opaque") or {}
        if opaque.get("driver") != DRIVER:
            continue
        try:
            decode(opaque.get("parameters"))
        except ConfigError as error:
            found = f"DeviceClass {device_class['metadata']['name']}: {error}"
            advice = "correct its config: every claim of the class is refused (InvalidConfig)"
            findings.append(problem("device-classes", found, advice))
    return findings


def judge_controller(view: ClusterView) -> list[Finding]:
    """By its lease: who holds it, and since when nobody renewed it."""
    check = "controller"
    if isinstance(view.workloads, Unknown):
        return [warning(check, f"not looked at: {view.workloads.why}", "ask as somebody who may list deployments")]
    controller = installed(view.workloads).controller
    if controller is None:
        advice = "install the chart there, or say with --namespace where it is installed"
        return [problem(check, f"there is no controller in namespace {view.namespace}", advice)]
    lease = f"lease {view.namespace}/{installed(view.workloads).lease}"
    if isinstance(view.leases, Unknown):
        return [warning(check, f"{lease}: {view.leases.why}", "ask as somebody who may list leases")]
    spec = view.leases[0]["spec"] if view.leases else {}
    holder = spec.get("holderIdentity")
    if not holder:
        return [problem(check, f"nobody holds {lease}: claims are not explained", _to_start(view, controller))]
    age_s = (view.now - datetime.fromisoformat(spec["renewTime"])).total_seconds()
    if age_s > spec["leaseDurationSeconds"] + _LEASE_SLACK_S:
        found = f"{holder} holds {lease}, but has not renewed it for {age_s:.0f} s: claims are not explained"
        return [problem(check, found, _to_start(view, controller))]
    return [ok(check, f"{holder} holds {lease}")]


def _to_start(view: ClusterView, controller: Workload) -> str:
    if controller.wanted == 0:
        return f"kubectl -n {view.namespace} scale deployment {controller.name} --replicas=1"
    return f"see why its pods do not run: kubectl -n {view.namespace} describe pods -l app.kubernetes.io/component=controller"


def judge_policy(view: ClusterView) -> list[Finding]:
    """Whether what narrows the node plugins' writes is in force."""
    check, advice = "admission-policy", "install the chart again: it has the policy and its binding"
    policies, bindings = view.policies, view.bindings
    if isinstance(policies, Unknown) or isinstance(bindings, Unknown):
        why = " ".join(each.why for each in (policies, bindings) if isinstance(each, Unknown))
        asking = "ask as somebody who may list validatingadmissionpolicies and validatingadmissionpolicybindings"
        return [warning(check, f"not looked at: {why}", asking)]
    names = sorted(each["metadata"]["name"] for each in policies)
    denying = [each["spec"]["policyName"] for each in bindings if "Deny" in each["spec"].get("validationActions", [])]
    if not set(names) & set(denying):
        what = f"{', '.join(names)} is not bound to deny anything" if names else "there is no ValidatingAdmissionPolicy"
        return [warning(check, f"{what}: a node plugin can write the slices of other nodes", advice)]
    return [ok(check, f"{', '.join(names)} pins each node plugin to its own node")]


def judge_config(view: ClusterView) -> list[Finding]:
    """The ConfigMap, as the node plugins read it."""
    check = "node-config"
    found: Installed = installed(view.workloads)
    if found.plugin is None:
        return []  # `node-plugins` says it
    where = f"ConfigMap {view.namespace}/{found.config_map}"
    if isinstance(view.config_maps, Unknown):
        return [warning(check, f"{where}: {view.config_maps.why}", "ask as somebody who may list configmaps")]
    if not view.config_maps:
        return [ok(check, f"there is no {where}: every card has the defaults")]
    text = (view.config_maps[0].get("data") or {}).get(found.config_key)
    advice = "correct it, and try the file first: hami-dra config check FILE; the node plugins keep the last good one"
    if text is None:
        return [problem(check, f"{where} has no key {found.config_key}", advice)]
    try:
        config = decode_node_config(text)
    except ConfigError as error:
        return [problem(check, f"{where}: {error}", advice)]
    return [ok(check, f"{where} is valid, {len(config.entries)} entries")]
