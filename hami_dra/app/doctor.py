"""`hami-dra doctor`: looks at a cluster through its API server, and says what is wrong and what to do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hami_dra._lib.clock import SYSTEM_CLOCK
from hami_dra.api.names import DRIVER
from hami_dra.core.doctor import Finding, exit_status, judge_cluster, report_json, report_lines
from hami_dra.core.doctor.rights import account_rights, doctor_rights
from hami_dra.core.doctor.view import ClusterView, Installed, Right, Seen, Unknown, installed
from hami_dra.core.errors import ApiUnavailable, KubeError
from hami_dra.core.ids import NodeName
from hami_dra.kube.slices import SLICES_PATH, NodeSlices
from hami_dra.kube.survey import allowed, serves, survey
from hami_dra.kube.version import server_version
from hami_dra.node.gates import Gates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TextIO

    from hami_dra.core.layout import Server
    from hami_dra.kube.transport import Transport

__all__ = ["examine_cluster", "tell"]

_NODE = NodeName("hami-dra-doctor")
"""For the dry runs: a node that there need not be."""
_OURS = "app.kubernetes.io/part-of=hami-dra"
_DRA = "/apis/resource.k8s.io/v1"
_POLICIES = "/apis/admissionregistration.k8s.io/v1"


def tell(findings: Sequence[Finding], *, as_json: bool, out: TextIO) -> int:
    """Write the report; the exit status."""
    text = json.dumps(report_json(findings), indent=2) if as_json else "\n".join(report_lines(findings))
    out.write(text + "\n")
    return exit_status(findings)


def examine_cluster(transport: Transport, *, namespace: str, now: datetime | None = None) -> list[Finding]:
    """Look at the cluster.

    Raises:
        ApiUnavailable: its API server does not answer.
    """
    now, version = now or datetime.now(UTC), server_version(transport).text
    if not serves(transport, "resource.k8s.io/v1"):
        return judge_cluster(ClusterView(namespace=namespace, now=now, version=version, serves_dra=False))
    return judge_cluster(_look(transport, namespace, now=now, version=version))


def _look(transport: Transport, namespace: str, *, now: datetime, version: str) -> ClusterView:
    def ours(path: str) -> Seen:
        return survey(transport, path, labels=_OURS, namespace=namespace)

    def named(path: str, name: str) -> Seen:
        return survey(transport, path, namespace=namespace, name=name) if name else []

    plugins, controllers = ours("/apis/apps/v1/daemonsets"), ours("/apis/apps/v1/deployments")
    workloads = _both(plugins, controllers)
    found = installed(workloads)
    return ClusterView(
        namespace=namespace,
        now=now,
        version=version,
        serves_dra=True,
        server=_kept(transport),
        rights=allowed(transport, doctor_rights(namespace)),
        accounts=_accounts(transport, found, namespace),
        workloads=workloads,
        pods=ours("/api/v1/pods"),
        leases=named("/apis/coordination.k8s.io/v1/leases", found.lease),
        config_maps=named("/api/v1/configmaps", found.config_map),
        classes=survey(transport, f"{_DRA}/deviceclasses"),
        slices=survey(transport, SLICES_PATH, fields=f"spec.driver={DRIVER}"),
        claims=survey(transport, f"{_DRA}/resourceclaims"),
        pending=survey(transport, "/api/v1/pods", fields="status.phase=Pending"),
        policies=survey(transport, f"{_POLICIES}/validatingadmissionpolicies", labels=_OURS),
        bindings=survey(transport, f"{_POLICIES}/validatingadmissionpolicybindings", labels=_OURS),
    )


def _accounts(transport: Transport, found: Installed, namespace: str) -> Mapping[str, Mapping[Right, bool]] | Unknown:
    answers: dict[str, Mapping[Right, bool]] = {}
    for account, rights in account_rights(found, namespace=namespace).items():
        answer = allowed(transport, rights, account=f"{namespace}:{account}")
        if isinstance(answer, Unknown):
            return answer
        answers[account] = answer
    return answers


def _both(one: Seen, other: Seen) -> Seen:
    if isinstance(one, Unknown):
        return one
    return other if isinstance(other, Unknown) else [*one, *other]


def _kept(transport: Transport) -> Server | Unknown:
    """What the API server keeps of a slice, by the node plugin's own dry runs."""
    gates = Gates(
        slices=NodeSlices(transport, driver=DRIVER, node=_NODE),
        server_version=lambda: server_version(transport).text,
        node=_NODE,
        retry_s=0.0,
        clock=SYSTEM_CLOCK,
    )
    try:
        return gates.look()
    except ApiUnavailable:
        raise
    except KubeError as error:
        return Unknown(str(error))
