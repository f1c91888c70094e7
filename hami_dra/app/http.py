"""`/metrics`, `/healthz` and `/readyz` over plain HTTP.

One request at a time, each with a deadline: enough for a scraper and for probes, and a slow client costs nobody but the next.
What is healthy and ready is left to the composition roots.
"""

from __future__ import annotations

import logging
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable

    from hami_dra._lib.threads import Group

__all__ = ["serve_http"]

_CLIENT_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class _Server(HTTPServer):
    """Carries what the handler answers with; binds all addresses of the pod."""

    def __init__(self, port: int, *, registry: CollectorRegistry, ready: Callable[[], bool]) -> None:
        self.registry = registry
        self.ready = ready
        super().__init__(("", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET; `timeout` bounds each read from the client."""

    server: _Server
    timeout = _CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, generate_latest(self.server.registry), CONTENT_TYPE_LATEST)
        elif path == "/healthz":
            self._answer(200, b"ok\n")
        elif path == "/readyz":
            ready = self.server.ready()
            self._answer(200 if ready else 503, b"ok\n" if ready else b"not ready\n")
        else:
            self._answer(404, b"not found: try /metrics, /healthz or /readyz\n")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: probes come every few seconds."""

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve_http(group: Group, *, port: int, registry: CollectorRegistry, ready: Callable[[], bool]) -> int:
    """Serve in a thread of `group` until it stops; returns the port, which matters when 0 was asked for.

    Raises:
        OSError: the port cannot be bound.
    """
    server = _Server(port, registry=registry, ready=ready)
    bound: int = server.server_address[1]

    def run() -> None:
        with server:
            server.serve_forever(poll_interval=0.2)

    group.on_stop(server.shutdown)
    group.spawn("http", run)
    _log.info("serving metrics", extra={"port": bound})
    return bound
