"""The one door to the API server.

Everything that the house asks of Kubernetes goes through a `Transport`: `kube.client.ClusterTransport` over HTTPS, and
`hami_dra.testing.apiserver.FakeApiServer` in memory.  Objects are raw JSON, so that a field which this release does not
know is never lost.  Retrying is left to the callers, who know what may be repeated.
Invariant: an answer that is not 2xx is always an exception of the `KubeError` tree, never a `Response`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from hami_dra.api.k8s import JsonObject

__all__ = ["APPLY_PATCH", "JSON", "MERGE_PATCH", "Response", "Stream", "Transport"]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML; every supported API server takes this spelling


@dataclass(frozen=True, slots=True)
class Response:
    """A 2xx answer of the API server."""

    status: int
    body: JsonObject
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream(Protocol):
    """The lines of a watch: an iterator that another thread can end."""

    def __iter__(self) -> Self: ...

    def __next__(self) -> bytes:
        """The next line, without its end.

        Raises:
            ApiUnavailable: the connection broke, or was silent for too long.
        """
        ...

    def close(self) -> None:
        """End the iteration; may be called from any thread, any number of times."""
        ...


class Transport(Protocol):
    """Requests to one API server.  Safe to use from many threads at once."""

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
        """Send one request and read its answer.

        Args:
            method: GET, POST, PUT, PATCH or DELETE.
            path: with its leading slash, names already quoted.
            query: parameters, not yet quoted.
            body: what to send, if anything.
            content_type: of the body; tells the kinds of PATCH apart.
            timeout_s: for the whole request.

        Raises:
            KubeError: the API server refused, or could not be asked (`ApiUnavailable`).
        """
        ...

    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> AbstractContextManager[Stream]:
        """Open a watch and iterate over its lines as they come; the iterator ends when the server ends the watch.

        Args:
            path: of the collection.
            query: with `watch=true`.
            timeout_s: the longest silence between two lines.

        Raises:
            KubeError: on opening.
        """
        ...
