"""Following a collection, on good days and on bad ones."""

import contextlib
from collections.abc import Iterator, Mapping

import pytest

from hami_dra._lib.threads import Group, GroupFailedError
from hami_dra.api.k8s import JsonObject
from hami_dra.kube.reflector import Collection, Reflector
from hami_dra.kube.transport import Response, Stream
from hami_dra.testing.apiserver import RESET, FakeApiServer
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually

NODES = Collection("/api/v1/nodes")


def node(name: str, **labels: str) -> JsonObject:
    """A Node object."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


class Told:
    """A handler that remembers."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def added(self, obj: JsonObject) -> None:
        """Remember."""
        self.events.append(f"+{obj['metadata']['name']}")

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """Remember, with the label before and after."""
        was, now = (o["metadata"]["labels"].get("v") for o in (old, obj))
        self.events.append(f"{obj['metadata']['name']}:{was}>{now}")

    def deleted(self, old: JsonObject) -> None:
        """Remember."""
        self.events.append(f"-{old['metadata']['name']}")


@contextlib.contextmanager
def reflecting(server: FakeApiServer, told: Told, collection: Collection = NODES) -> Iterator[Reflector]:
    """A reflector that has synced and watches."""
    reflector = Reflector(server, collection, told, rand=lambda: 0.01)
    with Group("test") as group:
        synced = reflector.start(group, name="reflector")
        assert synced.wait(10)
        eventually(lambda: server.open_watches == 1)
        yield reflector


def test_what_is_there_comes_first_then_every_change_in_order() -> None:
    """List, then watch: added, modified with the old object, deleted; the cache keeps up."""
    server, told = FakeApiServer(), Told()
    first = server.add(node("a", v="1"))
    with reflecting(server, told) as reflector:
        assert told.events == ["+a"]
        first["metadata"]["labels"]["v"] = "2"
        server.change(first)
        server.add(node("b"))
        eventually(lambda: len(told.events) == 3)
        found = reflector.get("a")
        assert found is not None
        assert found["metadata"]["labels"] == {"v": "2"}
        assert reflector.get("a", namespace="other") is None
        server.remove(first)
        eventually(lambda: len(told.events) == 4)
        assert [o["metadata"]["name"] for o in reflector.objects()] == ["b"]
    assert told.events == ["+a", "a:1>2", "+b", "-a"]


def test_a_long_list_comes_in_pages() -> None:
    """1,201 objects are asked for in three requests of at most 500."""
    server, told = FakeApiServer(), Told()
    for index in range(1201):
        server.add(node(f"n{index:04}"))
    with reflecting(server, told):
        lists = [r for r in server.requests if "watch" not in r.query]
    assert len(told.events) == 1201
    assert [r.query["limit"] for r in lists] == ["500"] * 3


def test_a_page_that_expired_starts_the_list_over() -> None:
    """410 in the middle of a list is not an end but a new beginning."""
    server, told = FakeApiServer(), Told()
    for index in range(600):
        server.add(node(f"n{index:04}"))
    server.fail_next(1, 410, path_contains="/nodes")
    with reflecting(server, told):
        assert len(told.events) == 600


def test_after_410_the_difference_is_told() -> None:
    """What happened while the history was lost is found by listing again: changes, deletions, new objects."""
    server, told = FakeApiServer(), Told()
    kept, changed, gone = (server.add(node(name, v="1")) for name in ("kept", "changed", "gone"))
    with reflecting(server, told):
        told.events.clear()
        server.outage()
        server.change({**changed, "metadata": {**changed["metadata"], "labels": {"v": "2"}}})
        server.remove(gone)
        server.add(node("new"))
        server.compact()
        server.recover()
        eventually(lambda: len(told.events) == 3)
    assert sorted(told.events) == ["+new", "-gone", "changed:1>2"]
    assert kept["metadata"]["name"] not in "".join(told.events)


def test_an_object_made_again_under_its_name_is_a_new_one() -> None:
    """If deletion and creation were both missed, the handler still sees the old one go before the new one comes."""
    server, told = FakeApiServer(), Told()
    old = server.add(node("a"))
    with reflecting(server, told):
        server.outage()
        server.remove(old)
        server.add(node("a"))
        server.compact()
        server.recover()
        eventually(lambda: len(told.events) == 3)
    assert told.events == ["+a", "-a", "+a"]


def test_a_broken_watch_goes_on_where_it_was() -> None:
    """After a reset nothing is listed again, nothing is lost and nothing is told twice."""
    server, told = FakeApiServer(), Told()
    with reflecting(server, told):
        server.break_watches()
        server.add(node("a"))
        eventually(lambda: told.events == ["+a"])
        lists = [r for r in server.requests if "watch" not in r.query]
    assert len(lists) == 1


def test_a_bookmark_moves_the_start_of_the_next_watch() -> None:
    """After a bookmark, a reconnect survives the compaction of everything before it."""
    server, told = FakeApiServer(), Told()
    slices = Collection("/apis/resource.k8s.io/v1/resourceslices")
    with reflecting(server, told, slices):
        for index in range(3):
            server.add(node(f"n{index}"))  # other objects move the version on
        server.send_bookmarks()
        version = server.version
        server.break_watches()
        eventually(lambda: server.open_watches == 1 and len(server.requests) >= 3)
        assert server.requests[-1].query["resourceVersion"] == str(version)
    assert told.events == []


def test_selectors_narrow_what_is_told() -> None:
    """Field and label selectors go to the server, for the list and for the watch."""
    server, told = FakeApiServer(), Told()
    server.add(node("a", zone="x"))
    server.add(node("b", zone="y"))
    with reflecting(
        server, told, Collection("/api/v1/nodes", field_selector="metadata.name=a", label_selector="zone=x")
    ):
        server.add(node("c", zone="x"))
        server.change(
            node("a", zone="x", v="2") | {"metadata": {**server.objects("Node")[0]["metadata"], "labels": {}}}
        )
        eventually(lambda: len(told.events) == 2)
    assert told.events == ["+a", "-a"]


def test_managed_fields_are_not_kept() -> None:
    """The bulkiest part of an object, which nobody reads, takes no memory."""
    server, told = FakeApiServer(), Told()
    obj = node("a")
    obj["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    server.add(obj)
    with reflecting(server, told) as reflector:
        assert "managedFields" not in reflector.objects()[0]["metadata"]


def test_an_error_of_the_handler_stops_the_group() -> None:
    """A bug in a handler must not leave a cache that looks alive."""

    class Broken(Told):
        """Fails on the first object."""

        def added(self, obj: JsonObject) -> None:
            """Fail."""
            raise ZeroDivisionError(obj)

    server = FakeApiServer()
    server.add(node("a"))
    group = Group("test")
    Reflector(server, NODES, Broken()).start(group, name="reflector")
    with pytest.raises(GroupFailedError, match="test/reflector"):
        group.join(5)


def test_nobody_is_told_of_having_synced_before_the_list_is_complete() -> None:
    """While the API server is away the event of the first list does not come."""
    clock, server = FakeClock(), FakeApiServer()
    server.outage()
    reflector = Reflector(server, NODES, Told(), clock=clock)
    with Group("test") as group:
        synced = reflector.start(group, name="reflector")
        eventually(lambda: len(server.requests) == 1)
        clock.advance(5)
        assert not synced.is_set()
        server.recover()
        eventually(synced.is_set)


def test_a_watch_whose_peer_is_gone_without_a_word_is_opened_anew() -> None:
    """Silence beyond the time that the watch was asked to last means a dead peer."""
    clock = FakeClock()
    server, told = FakeApiServer(clock=clock), Told()
    reflector = Reflector(server, NODES, told, watch_s=100, clock=clock, rand=lambda: 0.0)
    with Group("test", clock=clock) as group:
        reflector.start(group, name="reflector")
        eventually(lambda: server.open_watches == 1)
        server.silence_watches()
        server.add(node("a"))
        clock.advance(111)
        eventually(lambda: told.events == ["+a"])
    assert [r.query.get("timeoutSeconds") for r in server.requests[:2]] == [None, "100"]


@pytest.mark.parametrize("status", [RESET, 429, 500, 403])
def test_a_server_that_fails_at_once_is_asked_at_most_once_a_second(status: int) -> None:
    """After a few quick tries the requests of an hour of failures stay below one a second, by far."""
    clock, server = FakeClock(jumps=True), FakeApiServer()
    server.fail_next(200, status)
    began = clock.monotonic()
    with Group("test", clock=clock) as group:
        Reflector(server, NODES, Told(), clock=clock).start(group, name="reflector")
        eventually(lambda: len(server.requests) >= 200)
    assert clock.monotonic() - began > 200
    assert max(clock.waits) <= 30


class _ShortWatches:
    """A server whose watches end politely, at once, every time."""

    def __init__(self) -> None:
        self.watches = 0

    def request(self, *_: object, **__: object) -> Response:
        """An empty list."""
        return Response(200, {"metadata": {"resourceVersion": "1"}, "items": []})

    @contextlib.contextmanager
    def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> Iterator[Stream]:
        """A watch without an event."""
        self.watches += 1
        with FakeApiServer().stream(path, query={**query, "timeoutSeconds": "0"}, timeout_s=timeout_s) as stream:
            yield stream


def test_watches_that_end_at_once_do_not_become_a_loop() -> None:
    """A server (or proxy) that closes each watch politely is not asked again without a pause either."""
    clock, server = FakeClock(jumps=True), _ShortWatches()
    began = clock.monotonic()
    with Group("test", clock=clock) as group:
        Reflector(server, NODES, Told(), clock=clock).start(group, name="reflector")
        eventually(lambda: server.watches >= 100)
    assert clock.monotonic() - began > 100


def test_retry_after_is_honoured() -> None:
    """A server that says when to come back is not asked before."""
    clock, server = FakeClock(jumps=True), FakeApiServer()
    server.fail_next(1, 429, retry_after_s=17)
    with Group("test", clock=clock) as group:
        synced = Reflector(server, NODES, Told(), clock=clock).start(group, name="reflector")
        eventually(synced.is_set)
    assert clock.waits[0] >= 17


def test_a_line_that_is_no_event_makes_it_list_again() -> None:
    """Garbage in the stream (a proxy's error page) costs a new list, not the process."""

    class _Garbage(FakeApiServer):
        """Its first watch yields one line of HTML."""

        @contextlib.contextmanager
        def stream(self, path: str, *, query: Mapping[str, str], timeout_s: float) -> Iterator[Stream]:
            """A real watch, spoilt once."""
            with super().stream(path, query=query, timeout_s=timeout_s) as stream:
                watches = [r for r in self.requests if "watch" in r.query]
                yield _Line() if len(watches) == 1 else stream

    class _Line:
        """A stream of one line of HTML."""

        def __iter__(self) -> "_Line":
            return self

        def __next__(self) -> bytes:
            return b"<html>"

        def close(self) -> None:
            """Nothing to close."""

    server, told = _Garbage(), Told()
    with Group("test") as group:
        Reflector(server, NODES, told, rand=lambda: 0.01).start(group, name="reflector")
        eventually(lambda: server.open_watches == 1 and len(server.requests) == 4)
    assert ["watch" in r.query for r in server.requests] == [False, True, False, True]
