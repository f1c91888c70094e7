"""What the fake API server does that a real one only does on bad days; the rest is in test/contract."""

import json

import pytest

from hami_dra._lib.threads import Group
from hami_dra.core.errors import ApiUnavailable, Gone, Invalid, KubeError
from hami_dra.testing.apiserver import RESET, FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually

NODES = "/api/v1/nodes"


def a_node(name: str) -> dict[str, object]:
    """A Node object."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def test_a_list_that_went_on_for_too_long_is_gone() -> None:
    """A continue token does not outlive the history that it belongs to; a real server keeps it for five minutes."""
    server = FakeApiServer()
    for index in range(3):
        server.add(a_node(f"n{index}"))
    token = server.request("GET", NODES, query={"limit": "1"}).body["metadata"]["continue"]
    server.compact()
    with pytest.raises(Gone, match="410 Expired"):
        server.request("GET", NODES, query={"limit": "1", "continue": token})


def test_faults_hit_the_requests_that_they_are_meant_for() -> None:
    """Method and path choose; the count runs down; Retry-After goes along."""
    server = FakeApiServer()
    server.fail_next(2, 429, method="POST", path_contains="nodes", retry_after_s=3)
    server.request("GET", NODES)
    for _ in range(2):
        with pytest.raises(ApiUnavailable, match="429") as raised:
            server.request("POST", NODES, body=a_node("n"))
        assert raised.value.retry_after_s == 3.0
    server.request("POST", NODES, body=a_node("n"))
    server.fail_next(1, RESET)
    with pytest.raises(ApiUnavailable, match="reset"):
        server.request("GET", NODES)


def test_an_outage_breaks_watches_and_loses_nothing() -> None:
    """Afterwards everything is as it was."""
    server = FakeApiServer()
    server.add(a_node("n"))
    with server.stream(NODES, query={"watch": "true", "resourceVersion": str(server.version)}, timeout_s=5) as lines:
        server.outage()
        with pytest.raises(ApiUnavailable, match="reset"):
            next(lines)
    with pytest.raises(ApiUnavailable, match="refused"):
        server.request("GET", NODES)
    server.recover()
    assert len(server.request("GET", NODES).body["items"]) == 1


def test_an_open_watch_misses_nothing_of_a_history_that_is_forgotten() -> None:
    """Compaction is for those who come later: a watch that is open still tells what happened before, as a real server's."""
    server = FakeApiServer()
    server.add(a_node("n0"))
    with server.stream(NODES, query={"watch": "true", "resourceVersion": str(server.version)}, timeout_s=5) as lines:
        server.add(a_node("n1"))
        server.compact()
        assert json.loads(next(iter(lines)))["object"]["metadata"]["name"] == "n1"


def test_a_slow_server_takes_its_time() -> None:
    """Every request lasts as long as was asked for, by the server's clock."""
    clock = FakeClock()
    server = FakeApiServer(clock=clock)
    server.slow(5)
    with Group("g") as group:
        done = group.event()

        def ask() -> None:
            server.request("GET", NODES)
            done.set()

        group.spawn("client", ask)
        eventually(lambda: clock.waits)
        assert not done.is_set()
        clock.advance(5)
        assert done.wait(5)


def test_nothing_that_a_client_holds_changes_under_its_hands() -> None:
    """Objects go in and out as copies."""
    server = FakeApiServer()
    sent = a_node("n")
    got = server.add(sent)
    got["metadata"]["labels"] = {"a": "1"}
    sent["spec"] = {"unschedulable": True}
    assert server.objects("Node")[0].keys() == {"apiVersion", "kind", "metadata"}
    assert "labels" not in server.objects("Node")[0]["metadata"]


def test_what_the_fake_does_not_do_it_refuses() -> None:
    """An unknown verb or patch is an error, never a silent success."""
    server = FakeApiServer()
    server.add(a_node("n"))
    with pytest.raises(KubeError, match="405"):
        server.request("DELETE", NODES)
    with pytest.raises(Invalid, match="415"):
        server.request("PATCH", f"{NODES}/n", body={})
