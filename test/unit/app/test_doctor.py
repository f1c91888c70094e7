"""`hami-dra doctor` from the command line to the report, against an API server in memory."""

import io
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from unit.core.clusters import BINDING, GOOD, POLICY, WORKLOADS

from hami_dra._lib.clock import rfc3339
from hami_dra.app.doctor import examine_cluster, tell
from hami_dra.cli import main
from hami_dra.core.doctor import CHECKS, Finding, Level
from hami_dra.core.errors import ApiUnavailable, Forbidden, NotFound
from hami_dra.kube.transport import JSON, Response, Stream
from hami_dra.testing.apiserver import FakeApiServer

OURS = {"app.kubernetes.io/part-of": "hami-dra"}
NAMESPACE = "hami-system"


class Cluster:
    """A fake API server with the chart installed: what the fake does not serve is answered here, a list for each path."""

    def __init__(self, server: FakeApiServer) -> None:
        self.server = server
        self.lists: dict[str, list[Any]] = {
            f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets": WORKLOADS[:1],
            f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments": WORKLOADS[1:],
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies": [POLICY],
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings": [BINDING],
        }
        self.refused: tuple[str, ...] = ()
        """Words of paths to which nobody is let."""
        self.unanswered = "nothing"
        """Word of paths to which nobody answers."""
        self.reviews: list[Mapping[str, Any]] = []
        self.dra = True

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
        content_type: str = JSON,
        timeout_s: float = 30.0,
    ) -> Response:
        """One answer."""
        if any(word in path for word in self.refused):
            raise Forbidden(f"{method} {path}: 403 Forbidden")
        if self.unanswered in path:
            raise ApiUnavailable(f"{method} {path}: 503")
        if path == "/apis/resource.k8s.io/v1":
            if not self.dra:
                raise NotFound(f"{path}: 404", of_object=False)
            return Response(200, {})
        if path.startswith("/apis/authorization.k8s.io/v1/"):
            assert body is not None
            self.reviews.append(body)
            return Response(201, {"status": {"allowed": True}})
        if path in self.lists:
            return Response(200, {"metadata": {}, "items": self.lists[path]})
        return self.server.request(method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s)

    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> AbstractContextManager[Stream]:
        """Not used."""
        raise AssertionError(path, query, timeout_s)


@pytest.fixture
def cluster() -> Cluster:
    """With a controller, a node plugin, and what it publishes."""
    server = FakeApiServer()
    for kind, name, spec in (
        ("Lease", "hami-dra-controller", {"holderIdentity": "a", "leaseDurationSeconds": 15}),
        ("Lease", "other", {"holderIdentity": "b"}),
    ):
        spec["renewTime"] = rfc3339(datetime.now(UTC))
        metadata = {"namespace": NAMESPACE, "name": name}
        server.add({"apiVersion": "coordination.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
    metadata = {"namespace": NAMESPACE, "name": "hami-dra-node"}
    server.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": GOOD}})
    labels = OURS | {"app.kubernetes.io/component": "node"}
    server.add(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": "plugin", "labels": labels},
            "spec": {"nodeName": "node-1"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }
    )
    pool = {"name": "node-1/gpu", "generation": 1, "resourceSliceCount": 1}
    spec_of_slice = {"driver": "gpu.hami.io", "nodeName": "node-1", "pool": pool, "devices": []}
    server.add(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "s"},
            "spec": spec_of_slice,
        }
    )
    metadata = {"name": "gpu.hami.io"}
    server.add({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": metadata, "spec": {}})
    return Cluster(server)


def look(cluster: Cluster) -> dict[str, Finding]:
    """The worst finding of each check."""
    order = list(Level)
    findings = examine_cluster(cluster, namespace=NAMESPACE)
    return {each.check: each for each in sorted(findings, key=lambda each: order.index(each.level))}


def test_a_healthy_cluster_is_read_as_it_is(cluster: Cluster) -> None:
    """Through every adapter, and nothing is left behind by the dry runs."""
    found = look(cluster)
    assert {check: each for check, each in found.items() if each.level is not Level.OK} == {}
    assert set(found) == set(list(CHECKS)[:13])
    assert len(cluster.server.objects("ResourceSlice")) == 1
    users = {review["spec"].get("user") for review in cluster.reviews}
    prefix = f"system:serviceaccount:{NAMESPACE}"
    assert users == {None, f"{prefix}:hami-dra-node", f"{prefix}:hami-dra-controller"}


def test_closed_gates_are_seen_by_the_dry_runs_of_the_node_plugin(cluster: Cluster) -> None:
    """What the server drops is said, with the layouts that are left."""
    cluster.server.gates["DRAConsumableCapacity"] = False
    found = look(cluster)
    assert "DRAConsumableCapacity" in found["feature-gates"].found
    assert exit_of(list(found.values())) == 0


def exit_of(findings: list[Finding]) -> int:
    """The status that the command would end with."""
    return tell(findings, as_json=False, out=io.StringIO())


def test_who_may_do_nothing_learns_what_could_not_be_looked_at(cluster: Cluster) -> None:
    """With the server's words, and without a traceback."""
    cluster.refused = ("daemonsets", "authorization", "resourceslices", "validating")
    found = look(cluster)
    for check in ("rights", "feature-gates", "controller", "node-plugins", "slices", "admission-policy"):
        assert found[check].level is Level.WARNING
        assert "403" in found[check].found
    cluster.refused = ("deployments",)
    assert look(cluster)["controller"].level is Level.WARNING
    cluster.refused = ("/subjectaccessreviews",)
    assert "403" in look(cluster)["accounts"].found


def test_pages_are_read_to_the_end(cluster: Cluster) -> None:
    """A cluster has more claims than a page."""
    for number in range(501):
        metadata = {"namespace": "ml", "name": f"claim-{number}"}
        requests = [{"name": "gpu", "exactly": {"deviceClassName": "gpu.hami.io"}}]
        cluster.server.add(
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "metadata": metadata,
                "spec": {"devices": {"requests": requests}},
            }
        )
    assert look(cluster)["claims"].found == "501 claims of this driver, and none is stuck"


def test_an_api_server_that_is_gone_cannot_be_looked_at(cluster: Cluster) -> None:
    """At whatever moment it goes."""
    for path in ("version", "resourceslices", "pods"):
        cluster.server.fail_next(2, 503, path_contains=path)
        with pytest.raises(ApiUnavailable):
            look(cluster)
    cluster.unanswered = "authorization"
    with pytest.raises(ApiUnavailable):
        look(cluster)


def test_an_api_server_without_dra_is_told(cluster: Cluster) -> None:
    """As a problem, with status 1."""
    cluster.dra = False
    findings = examine_cluster(cluster, namespace=NAMESPACE)
    assert [each.check for each in findings] == ["api-server"]
    assert exit_of(findings) == 1


def test_the_report_is_text_or_json() -> None:
    """With the same findings."""
    findings = [Finding(check="cdi", level=Level.OK, found="fine")]
    text, structured = io.StringIO(), io.StringIO()
    assert tell(findings, as_json=False, out=text) == tell(findings, as_json=True, out=structured) == 0
    assert text.getvalue().splitlines()[0].split() == ["ok", "cdi", "fine"]
    assert json.loads(structured.getvalue())["summary"] == {"ok": 1, "warning": 0, "problem": 0}


def test_where_nothing_can_be_looked_at_the_status_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cluster, and no node plugin beside; the message says what to do."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert main(["doctor"]) == 2
    assert "give a kubeconfig instead" in capsys.readouterr().err
    assert main(["doctor", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    monkeypatch.setenv("POD_UID", "nobody-has-this-one")
    assert main(["doctor", "--node"]) == 2
    assert "no node plugin of pod nobody-has-this-one runs beside this process" in capsys.readouterr().err
