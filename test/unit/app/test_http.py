"""Metrics and probes over HTTP."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hami_dra._lib.threads import Group
from hami_dra.app.http import serve_http
from hami_dra.app.process import new_registry
from hami_dra.testing.eventually import eventually


@dataclass
class Site:
    """A server and what it says of its readiness."""

    port: int = 0
    ready: bool = False
    group: Group = field(default_factory=lambda: Group("http"))

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def site() -> Iterator[Site]:
    """A running server, not ready."""
    made = Site()
    with made.group as group:
        made.port = serve_http(group, port=0, registry=new_registry("test"), ready=lambda: made.ready)
        yield made


def test_metrics_tell_what_runs(site: Site) -> None:
    """The build is a metric of its own, with the component as a label."""
    status, text = site.get("/metrics")
    assert status == 200
    assert 'hami_build_info{component="test"' in text
    assert "process_resident_memory_bytes" in text


def test_readiness_follows_the_process(site: Site) -> None:
    """Alive from the start, ready when its owner says so."""
    assert site.get("/healthz")[0] == 200
    assert site.get("/readyz?verbose") == (503, "not ready\n")
    site.ready = True
    assert site.get("/readyz")[0] == 200


def test_other_paths_say_what_there_is(site: Site) -> None:
    """A wrong path is answered with the right ones."""
    assert site.get("/")[0] == 404
    assert "/metrics" in site.get("/")[1]


def test_a_port_in_use_is_an_error(site: Site) -> None:
    """Two processes cannot share one port."""
    with Group("second") as group, pytest.raises(OSError, match="in use"):
        serve_http(group, port=site.port, registry=new_registry("test"), ready=lambda: True)


def test_the_server_ends_with_its_group(site: Site) -> None:
    """Nothing listens after the stop."""
    site.group.stop()
    site.group.join(5)

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", site.port)) != 0

    eventually(refused)
