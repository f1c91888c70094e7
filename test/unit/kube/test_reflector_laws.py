"""What holds for a reflector whatever happens to the server."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject
from hami_dra.kube.reflector import Collection, Reflector
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.eventually import eventually

NAMES = ("a", "b", "c")


class Mirror:
    """A handler that insists on each object's life being told in order."""

    def __init__(self) -> None:
        self.uids: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def added(self, obj: JsonObject) -> None:
        """Not there before."""
        name = obj["metadata"]["name"]
        assert name not in self.uids
        self.uids[name] = obj["metadata"]["uid"]
        self.versions[name] = obj["metadata"]["resourceVersion"]

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """The same object as before, and `old` is what was told before."""
        name = obj["metadata"]["name"]
        assert self.uids[name] == obj["metadata"]["uid"]
        assert self.versions[name] == old["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]
        self.versions[name] = obj["metadata"]["resourceVersion"]

    def deleted(self, old: JsonObject) -> None:
        """There before."""
        name = old["metadata"]["name"]
        assert self.uids.pop(name) == old["metadata"]["uid"]
        del self.versions[name]


def perform(server: FakeApiServer, step: tuple[str, str]) -> None:
    """One thing that happens to the cluster."""
    what, name = step
    there = {obj["metadata"]["name"]: obj for obj in server.objects("Node")}
    if what == "write":
        obj = there.get(name)
        if obj is None:
            server.add({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        else:
            obj["metadata"].setdefault("labels", {})["n"] = str(server.version)
            server.change(obj)
    elif what == "delete":
        if name in there:
            server.remove(there[name])
    elif what in {"refuse", "gone"}:
        server.fail_next(1, 503 if what == "refuse" else 410)
    else:
        getattr(server, what)()


_steps = st.tuples(
    st.sampled_from(
        ["write"] * 4
        + ["delete"] * 2
        + ["break_watches", "compact", "send_bookmarks", "outage", "recover", "refuse", "gone"]
    ),
    st.sampled_from(NAMES),
)


@settings(max_examples=40)
@given(before=st.lists(_steps, max_size=5), steps=st.lists(_steps, max_size=25))
def test_the_mirror_becomes_true_again_after_anything(
    before: list[tuple[str, str]], steps: list[tuple[str, str]]
) -> None:
    """Every object's life is told in order, and in the end cache, handler and server agree, whatever broke meanwhile."""
    server, mirror = FakeApiServer(), Mirror()
    for step in before:
        perform(server, step)
    reflector = Reflector(server, Collection("/api/v1/nodes"), mirror, rand=lambda: 0.001)
    with Group("g") as group:
        reflector.start(group, name="reflector")
        for step in steps:
            perform(server, step)
        server.recover()

        def agree() -> bool:
            truth = {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in server.objects("Node")}
            cached = {obj["metadata"]["name"]: obj["metadata"]["resourceVersion"] for obj in reflector.objects()}
            return group.error is not None or truth == cached == mirror.versions

        eventually(agree)
