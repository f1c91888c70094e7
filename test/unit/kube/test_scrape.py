"""Metrics pages of node plugins through the API server."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest

from hami_dra.api.k8s import JsonObject
from hami_dra.core.errors import ApiUnavailable, Forbidden
from hami_dra.kube.scrape import Page, node_pages
from hami_dra.kube.transport import JSON, Response

PODS = "/api/v1/namespaces/hami-system/pods"


class _Lines:
    def __init__(self, lines: list[bytes]) -> None:
        self._lines = iter(lines)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> bytes:
        return next(self._lines)

    def close(self) -> None:
        """Nothing to close."""


class _ApiServer:
    """Pods, and what each of them answers; an error is raised."""

    def __init__(self, pods: list[JsonObject], answers: Mapping[str, list[bytes] | Exception]) -> None:
        self._pods = pods
        self._answers = answers

    def request(self, method: str, path: str, *, query: Mapping[str, str] | None = None, **_rest: Any) -> Response:
        """The list of pods."""
        assert (method, path) == ("GET", PODS)
        assert query == {"labelSelector": "app.kubernetes.io/name=hami-dra,app.kubernetes.io/component=node"}
        return Response(200, {"items": self._pods})

    @contextmanager
    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> Iterator[_Lines]:
        """A pod's page."""
        assert not query
        assert timeout_s > 0
        answer = self._answers[path]
        if isinstance(answer, Exception):
            raise answer
        yield _Lines(answer)


class _Locked:
    """An API server that lets nobody list pods."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = JSON,
        timeout_s: float = 30.0,
    ) -> Response:
        """Refused."""
        del method, query, body, content_type, timeout_s
        raise Forbidden(f"GET {path}: forbidden")

    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> NoReturn:
        """Never reached."""
        raise AssertionError(path, query, timeout_s)


def _pod(name: str, node: str | None, phase: str = "Running") -> JsonObject:
    spec = {} if node is None else {"nodeName": node}
    return {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}}


def test_each_node_has_its_page_or_the_reason_why_not() -> None:
    """Pods that do not run, or wait for a node, are none."""
    pods = [_pod("a", "node-1"), _pod("b", "node-2"), _pod("c", "node-3", "Pending"), _pod("d", None)]
    answers: dict[str, list[bytes] | Exception] = {
        f"{PODS}/a:8080/proxy/metrics": [b"hami_dra_device_shares 1", b"up 1"],
        f"{PODS}/b:8080/proxy/metrics": ApiUnavailable("GET b: 503"),
    }
    assert node_pages(_ApiServer(pods, answers), namespace="hami-system", port=8080) == [
        Page(node="node-1", text="hami_dra_device_shares 1\nup 1"),
        Page(node="node-2", problem="its node plugin does not answer: GET b: 503"),
    ]


def test_who_may_not_list_pods_is_told() -> None:
    """As an error of the API server."""
    with pytest.raises(Forbidden):
        node_pages(_Locked(), namespace="hami-system", port=8080)
