"""Lists, watches and what is built on them: the fake API server and a real one do the same."""

import json
from contextlib import ExitStack

import pytest
from contract.api_servers import SLICES, Api, a_slice

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject
from hami_dra.core.errors import Invalid
from hami_dra.core.ids import NodeName
from hami_dra.kube.events import EventRecorder
from hami_dra.kube.leases import Elector, LeaseTimes
from hami_dra.kube.reflector import Collection, Reflector
from hami_dra.kube.slices import NodeSlices
from hami_dra.kube.version import server_version
from hami_dra.testing.eventually import eventually


def names(body: JsonObject) -> list[str]:
    """The names of the objects of a list."""
    return sorted(item["metadata"]["name"] for item in body["items"])


def version_of(api: Api) -> str:
    """The version of the collection now."""
    return str(api.send("GET", SLICES)["metadata"]["resourceVersion"])


def watch(api: Api, since: str, *, count: int, seconds: int = 20, **query: str) -> list[tuple[str, JsonObject]]:
    """The next events of the slices after version `since`; fewer if the server ends the watch."""
    query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": str(seconds), **query}
    events: list[tuple[str, JsonObject]] = []
    with api.transport.stream(SLICES, query=query, timeout_s=30) as lines:
        for line in lines:
            event = json.loads(line)
            events.append((event["type"], event["object"]))
            if len(events) == count:
                break
    return events


def test_slices_are_found_by_driver_and_node(api: Api) -> None:
    """The field selectors that a node plugin lives on; others are refused."""
    api.send("POST", SLICES, a_slice("ours"))
    api.send("POST", SLICES, a_slice("of-other-node", node="n2"))
    api.send("POST", SLICES, a_slice("of-other-driver", driver="other.example.com"))
    query = {"fieldSelector": "spec.driver=gpu.hami.io,spec.nodeName=n1"}
    assert names(api.send("GET", SLICES, query=query)) == ["ours"]
    assert names(api.send("GET", SLICES, query={"fieldSelector": "metadata.name=of-other-node"})) == ["of-other-node"]
    with pytest.raises(Invalid, match=r"field label not supported"):
        api.send("GET", SLICES, query={"fieldSelector": "spec.devices=x"})


def test_items_of_a_list_do_not_repeat_their_kind(api: Api) -> None:
    """The list says it for all of them."""
    api.send("POST", SLICES, a_slice("s"))
    body = api.send("GET", SLICES)
    assert (body["kind"], body["apiVersion"]) == ("ResourceSliceList", "resource.k8s.io/v1")
    assert body["items"][0].keys() == {"metadata", "spec"}


def test_the_pages_of_a_list_are_one_moment(api: Api) -> None:
    """What is created after the first page is on none of them."""
    for index in range(5):
        api.send("POST", SLICES, a_slice(f"s{index}"))
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        body = api.send("GET", SLICES, query=query)
        seen += names(body)
        token = body["metadata"].get("continue")
        if not token:
            break
        query["continue"] = token
        api.send("POST", SLICES, a_slice(f"s0-late-{len(seen)}"))
    assert seen == [f"s{index}" for index in range(5)]


def test_a_watch_begins_where_the_list_ended(api: Api) -> None:
    """Added, modified and deleted, in order, with the versions of the writes."""
    since = version_of(api)
    made = api.send("POST", SLICES, a_slice("s"))
    changed = api.send("PUT", f"{SLICES}/s", {**made, "spec": {**made["spec"], "devices": [{"name": "gpu"}]}})
    api.send("DELETE", f"{SLICES}/s")
    events = watch(api, since, count=3)
    assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert [obj["metadata"]["resourceVersion"] for _, obj in events[:2]] == [
        made["metadata"]["resourceVersion"],
        changed["metadata"]["resourceVersion"],
    ]
    assert events[2][1]["spec"] == changed["spec"]
    assert int(events[2][1]["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])


def test_an_object_enters_and_leaves_a_selection(api: Api) -> None:
    """To whoever watches a selection, a change of label is a creation or a deletion."""
    since = version_of(api)
    made = api.send("POST", SLICES, a_slice("s"))
    for labels in ({"on": "yes"}, {"on": "yes", "more": "x"}, {"on": "no"}):
        made["metadata"]["labels"] = labels
        made = api.send("PUT", f"{SLICES}/s", made)
    events = watch(api, since, count=3, labelSelector="on=yes")
    assert [kind for kind, _ in events] == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watch_that_ends_says_how_far_it_was(api: Api) -> None:
    """Who asks for bookmarks is told, before the time is over, of the version up to which there was nothing for him."""
    selector = {"fieldSelector": "spec.nodeName=n1"}
    since, seconds = version_of(api), str(api.last_words_s)
    query = {"watch": "true", "resourceVersion": since, "timeoutSeconds": seconds, **selector}
    with api.transport.stream(SLICES, query={**query, "allowWatchBookmarks": "true"}, timeout_s=30) as lines:
        foreign = api.send("POST", SLICES, a_slice("foreign", node="n2"))["metadata"]["resourceVersion"]
        events = [json.loads(line) for line in lines]
    assert {(event["type"], event["object"]["kind"]) for event in events} == {("BOOKMARK", "ResourceSlice")}
    assert int(events[-1]["object"]["metadata"]["resourceVersion"]) >= int(foreign)
    assert watch(api, since, count=5, seconds=1, **selector) == []


def test_a_version_from_long_ago_is_gone(api: Api) -> None:
    """It comes as an ERROR event in the stream, with code 410."""
    api.send("POST", SLICES, a_slice("s"))
    api.forget_history()
    [(kind, status)] = watch(api, "1", count=5)
    assert (kind, status["code"], status["reason"]) == ("ERROR", 410, "Expired")


def test_a_watch_that_is_closed_ends(api: Api) -> None:
    """Another thread can end the wait for the next line, as often as it likes."""
    query = {"watch": "true", "resourceVersion": version_of(api)}
    with Group("g") as group, ExitStack() as stack:
        lines = stack.enter_context(api.transport.stream(SLICES, query=query, timeout_s=60))
        ended = group.event()

        def drain() -> None:
            assert list(lines) == []
            ended.set()

        group.spawn("drain", drain)
        assert not ended.wait(0.2)
        lines.close()
        lines.close()
        assert ended.wait(10)
    lines.close()


def test_a_watch_of_a_collection_that_does_not_allow_it_is_refused_on_opening(api: Api) -> None:
    """Refusals come before the first line."""
    with (
        pytest.raises(Invalid),
        api.transport.stream(SLICES, query={"watch": "true", "fieldSelector": "a=b"}, timeout_s=9),
    ):
        pass


class _Seen:
    """A handler that keeps names and devices."""

    def __init__(self) -> None:
        self.slices: dict[str, int] = {}

    def added(self, obj: JsonObject) -> None:
        """Keep."""
        assert obj["metadata"]["name"] not in self.slices
        self.slices[obj["metadata"]["name"]] = len(obj["spec"].get("devices") or [])

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """Keep."""
        assert self.slices[old["metadata"]["name"]] == len(old["spec"].get("devices") or [])
        self.slices[obj["metadata"]["name"]] = len(obj["spec"].get("devices") or [])

    def deleted(self, old: JsonObject) -> None:
        """Forget."""
        del self.slices[old["metadata"]["name"]]


def test_a_reflector_mirrors_a_collection(api: Api) -> None:
    """What the node plugin writes is what its reflector shows, through many short watches."""
    slices, seen = NodeSlices(api.transport, driver="gpu.hami.io", node=NodeName("n1")), _Seen()
    first = slices.create(a_slice("first"))  # type: ignore[arg-type]  # JSON of the right shape
    collection = Collection(SLICES, field_selector=slices.field_selector)
    reflector = Reflector(api.transport, collection, seen, watch_s=1.0)
    with Group("g") as group:
        assert reflector.start(group, name="reflector").wait(10)
        assert seen.slices == {"first": 0}
        api.send("POST", SLICES, a_slice("foreign", node="n2"))
        slices.create(a_slice("second"))  # type: ignore[arg-type]  # as above
        first["spec"]["devices"] = [{"name": "gpu"}]
        first = slices.update(first)
        eventually(lambda: seen.slices == {"first": 1, "second": 0})
        slices.delete(first)
        eventually(lambda: seen.slices == {"second": 0})
        assert "managedFields" not in reflector.objects()[0]["metadata"]


def test_events_are_accepted_and_counted_up(api: Api) -> None:
    """What the recorder sends passes the validation of Events, and its repetition too."""
    with Group("g") as group:
        recorder = EventRecorder(api.transport, component="contract", host="n1")
        recorder.start(group)
        claim = api.add_claim("00000000-0000-4000-8000-000000000001")
        for _ in range(3):
            recorder.emit(
                {
                    "apiVersion": "resource.k8s.io/v1",
                    "kind": "ResourceClaim",
                    "namespace": api.namespace,
                    "name": "claim",
                    "uid": claim["metadata"]["uid"],
                },
                event_type="Warning",
                reason="InvalidConfig",
                message="cores: 130 is above 100",
            )
        path = f"/api/v1/namespaces/{api.namespace}/events"
        query = {"fieldSelector": f"involvedObject.uid={claim['metadata']['uid']}"}
        eventually(lambda: [e["count"] for e in api.send("GET", path, query=query)["items"]] == [3], within_s=20)
    assert recorder.dropped == 0


def test_a_lease_goes_from_one_leader_to_the_next(api: Api) -> None:
    """Acquired, renewed, given back, taken over: the records pass the validation of Leases."""
    times = LeaseTimes(lease_s=3, renew_deadline_s=2, retry_s=0.1)
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases/leader"
    told: list[str] = []

    def candidate(group: Group, name: str) -> Elector:
        elector = Elector(api.transport, namespace=api.namespace, name="leader", identity=name, times=times)
        elector.start(group, on_started=lambda: told.append(f"+{name}"), on_stopped=lambda: told.append(f"-{name}"))
        return elector

    with Group("b") as second:
        with Group("a") as first:
            candidate(first, "a")
            eventually(lambda: told == ["+a"])
            version = api.send("GET", lease)["metadata"]["resourceVersion"]
            eventually(lambda: api.send("GET", lease)["metadata"]["resourceVersion"] != version)
            candidate(second, "b")
        eventually(lambda: told == ["+a", "-a", "+b"])
        spec = api.send("GET", lease)["spec"]
        assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)


def test_the_server_says_its_version(api: Api) -> None:
    """It is read from where every API server has it."""
    version = server_version(api.transport)
    assert (version.major, version.minor) == (1, 36)
