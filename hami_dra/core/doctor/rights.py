"""What rights are needed: by whoever asks the doctor, by the node plugin, by the controller.

A test holds the accounts' rights to what the chart grants.
"""

from collections.abc import Iterable

from hami_dra.api.names import DRIVER
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.view import ClusterView, Installed, Right, Unknown

__all__ = ["account_rights", "doctor_rights", "judge_accounts", "judge_rights"]

_DRA = "resource.k8s.io"
_POLICIES = "admissionregistration.k8s.io"


def doctor_rights(namespace: str) -> tuple[Right, ...]:
    """What the checks of a cluster read, and the two reviews and the dry run by which they ask."""
    return (
        *_rights("apps", "daemonsets", "list", namespace=namespace),
        *_rights("apps", "deployments", "list", namespace=namespace),
        *_rights("", "pods", "list"),
        *_rights("", "configmaps", "list", namespace=namespace),
        *_rights("coordination.k8s.io", "leases", "list", namespace=namespace),
        *_rights(_DRA, "deviceclasses", "list"),
        *_rights(_DRA, "resourceslices", "list create"),
        *_rights(_DRA, "resourceclaims", "list"),
        *_rights(_POLICIES, "validatingadmissionpolicies", "list"),
        *_rights(_POLICIES, "validatingadmissionpolicybindings", "list"),
        *_rights("authorization.k8s.io", "subjectaccessreviews", "create"),
    )


def account_rights(found: Installed, *, namespace: str) -> dict[str, tuple[Right, ...]]:
    """What the accounts of the workloads that are there need, by the accounts' names."""
    needed = {}
    if found.plugin is not None:
        needed[found.plugin.account] = (
            *_rights(_DRA, "resourceslices", "get list watch create update patch delete"),
            *_rights(_DRA, "resourceclaims", "get"),
            *_rights(_DRA, "resourceclaims/status", "get patch"),
            *_rights(_DRA, "resourceclaims/driver", "associated-node:patch associated-node:update", name=DRIVER),
            *_rights("", "nodes", "get list watch"),
            *_rights("", "events", "create patch"),
            *_rights("", "configmaps", "get list watch", namespace=namespace, name=found.config_map),
        )
    if found.controller is not None:
        needed[found.controller.account] = (
            *_rights(_DRA, "resourceclaims", "get list watch"),
            *_rights(_DRA, "resourceclaims/status", "patch"),
            *_rights(_DRA, "resourceclaims/driver", "arbitrary-node:patch arbitrary-node:update", name=DRIVER),
            *_rights("", "events", "create patch"),
            *_rights("coordination.k8s.io", "leases", "create", namespace=namespace),
            *_rights("coordination.k8s.io", "leases", "get update", namespace=namespace, name=found.lease),
        )
    return needed


def judge_rights(view: ClusterView) -> list[Finding]:
    """Of whoever asks: what is not allowed cannot be looked at."""
    check = "rights"
    advice = "ask as somebody with these rights; docs/troubleshooting.md lists all of them"
    if isinstance(view.rights, Unknown):
        return [warning(check, f"the API server does not say what this user may do: {view.rights.why}", advice)]
    if missing := _missing(view.rights.items()):
        return [warning(check, f"this user may not {missing}: what depends on it is not looked at", advice)]
    return [ok(check, "this user may read all that is looked at")]


def judge_accounts(view: ClusterView) -> list[Finding]:
    """Of the service accounts, by the API server's own word."""
    check = "accounts"
    if isinstance(view.accounts, Unknown):
        return [
            warning(
                check,
                f"the rights of the service accounts are unknown: {view.accounts.why}",
                "ask as somebody who may create subjectaccessreviews.authorization.k8s.io",
            )
        ]
    findings = []
    for account, rights in sorted(view.accounts.items()):
        if missing := _missing(rights.items()):
            advice = "install the chart again: it binds the account to its role (templates/rbac-*.yaml)"
            findings.append(problem(check, f"{account} may not {missing}", advice))
        else:
            findings.append(ok(check, f"{account} may do what it has to"))
    return findings


def _missing(rights: Iterable[tuple[Right, bool]]) -> str:
    return ", ".join(str(right) for right, allowed in rights if not allowed)


def _rights(group: str, resource: str, verbs: str, *, namespace: str = "", name: str = "") -> tuple[Right, ...]:
    return tuple(Right(group, resource, verb, namespace, name) for verb in verbs.split())
