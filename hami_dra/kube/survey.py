"""Looks at a cluster, once: lists of whatever kind, and who may do what.

What cannot be read is `Unknown` with the API server's words; only an API server that does not answer at all is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hami_dra.core.doctor.view import Right, Seen, Unknown
from hami_dra.core.errors import ApiUnavailable, KubeError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hami_dra.api.k8s import JsonObject
    from hami_dra.kube.transport import Transport

__all__ = ["allowed", "serves", "survey"]

_PAGE = 500
_REVIEWS = "/apis/authorization.k8s.io/v1"


def serves(transport: Transport, group_version: str) -> bool:
    """Whether the API server has that version of that group.

    Raises:
        KubeError: it could not be asked.
    """
    try:
        transport.request("GET", f"/apis/{group_version}")
    except NotFound:
        return False
    return True


def survey(
    transport: Transport, path: str, *, labels: str = "", fields: str = "", namespace: str = "", name: str = ""
) -> Seen:
    """All objects of a collection that the selectors choose.

    Args:
        transport: to the API server.
        path: of the collection, its last word the resource's: `/api/v1/pods`.
        labels: a label selector.
        fields: a field selector.
        namespace: of the collection; empty: all of them.
        name: of the one object that is wanted, if it is one.

    Raises:
        ApiUnavailable: nobody answers.
    """
    if namespace:
        group, _, resource = path.rpartition("/")
        path = f"{group}/namespaces/{quote(namespace, safe='')}/{resource}"
    chosen = {
        "labelSelector": labels,
        "fieldSelector": f"metadata.name={name}" if name else fields,
        "limit": str(_PAGE),
    }
    query = {key: value for key, value in chosen.items() if value}
    found: list[JsonObject] = []
    try:
        while True:
            body = transport.request("GET", path, query=query).body
            found += body.get("items") or []
            token = body["metadata"].get("continue")
            if not token:
                return found
            query["continue"] = token
    except ApiUnavailable:
        raise
    except KubeError as error:
        return Unknown(str(error))


def allowed(transport: Transport, rights: Iterable[Right], *, account: str = "") -> Mapping[Right, bool] | Unknown:
    """Whether whoever asks has these rights, or a service account (`namespace:name`) has.

    Raises:
        ApiUnavailable: nobody answers.
    """
    answers = {}
    try:
        for right in rights:
            answers[right] = _allowed(transport, right, account)
    except ApiUnavailable:
        raise
    except KubeError as error:
        return Unknown(str(error))
    return answers


def _allowed(transport: Transport, right: Right, account: str) -> bool:
    resource, _, subresource = right.resource.partition("/")
    asked = {
        "group": right.group,
        "resource": resource,
        "subresource": subresource,
        "verb": right.verb,
        "namespace": right.namespace,
        "name": right.name,
    }
    spec: dict[str, Any] = {"resourceAttributes": {key: value for key, value in asked.items() if value}}
    kind = "SelfSubjectAccessReview"
    if account:
        kind = "SubjectAccessReview"
        spec["user"] = f"system:serviceaccount:{account}"
        spec["groups"] = ["system:serviceaccounts", f"system:serviceaccounts:{account.partition(':')[0]}"]
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
    answer = transport.request("POST", f"{_REVIEWS}/{kind.lower()}s", body=body).body
    return bool(answer["status"]["allowed"])
