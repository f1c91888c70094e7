"""Creating, changing and deleting objects: the fake API server and a real one do the same."""

import pytest
from contract.api_servers import SLICES, Api, a_slice, shareable

from hami_dra.api.k8s import JsonObject
from hami_dra.core.errors import ApiUnavailable, Conflict, Invalid, NotFound
from hami_dra.core.gates import dropped_gates, probes
from hami_dra.core.ids import NodeName, PoolName


def test_a_created_object_gets_its_identity(api: Api) -> None:
    """Name from generateName, uid, version and time come from the server."""
    meta = api.send("POST", SLICES, a_slice(node="n1"))["metadata"]
    assert meta["name"].startswith("n1-")
    assert len(meta["name"]) == len("n1-") + 5
    assert int(meta["resourceVersion"]) > 0
    assert meta["creationTimestamp"].endswith("Z")
    assert meta["generation"] == 1
    assert len(meta["uid"]) == 36


def test_a_name_is_taken_once(api: Api) -> None:
    """The second object of a name is a conflict that says so."""
    api.send("POST", SLICES, a_slice("taken"))
    with pytest.raises(Conflict, match=r"409 AlreadyExists.*already exists"):
        api.send("POST", SLICES, a_slice("taken"))


def test_an_object_without_a_name_or_with_a_version_is_not_created(api: Api) -> None:
    """Both are mistakes of the caller, although the server takes the second one for its own."""
    nameless = a_slice()
    del nameless["metadata"]["generateName"]
    with pytest.raises(Invalid, match=r"metadata\.name"):
        api.send("POST", SLICES, nameless)
    versioned = a_slice("versioned")
    versioned["metadata"]["resourceVersion"] = "5"
    with pytest.raises(ApiUnavailable, match="500: resourceVersion should not be set"):
        api.send("POST", SLICES, versioned)


def test_an_update_of_an_old_version_is_a_conflict(api: Api) -> None:
    """Whoever wrote second has to look again."""
    first = api.send("POST", SLICES, a_slice("s"))
    first["spec"]["devices"] = [{"name": "gpu"}]
    second = api.send("PUT", f"{SLICES}/s", first)
    assert second["metadata"]["generation"] == 2
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    first["spec"]["devices"] = []
    with pytest.raises(Conflict, match=r"409 Conflict.*the object has been modified"):
        api.send("PUT", f"{SLICES}/s", first)


def test_an_update_without_a_version_is_unconditional_and_one_of_another_object_is_refused(api: Api) -> None:
    """No version means: whatever is there; another uid means: not this one."""
    api.send("POST", SLICES, a_slice("s"))
    changed = api.send("PUT", f"{SLICES}/s", a_slice("s", devices=[{"name": "gpu"}]))
    assert changed["spec"]["devices"] == [{"name": "gpu"}]
    changed["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(Conflict, match=r"409 Conflict.*UID"):
        api.send("PUT", f"{SLICES}/s", changed)


def test_an_update_that_changes_nothing_makes_no_version(api: Api) -> None:
    """Writing what is there already costs watchers nothing."""
    first = api.send("POST", SLICES, a_slice("s"))
    second = api.send("PUT", f"{SLICES}/s", first)
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_what_is_not_there_is_not_found(api: Api) -> None:
    """Get, update, delete of a missing object, and a collection that no server has."""
    for method in ("GET", "PUT", "DELETE"):
        with pytest.raises(NotFound, match="404 NotFound"):
            api.send(method, f"{SLICES}/none", a_slice("none") if method == "PUT" else None)
    with pytest.raises(NotFound):
        api.send("GET", "/apis/resource.k8s.io/v1/nothings")


def test_a_deletion_can_insist_on_an_object_and_a_version(api: Api) -> None:
    """Preconditions that fail are conflicts, and the object stays."""
    meta = api.send("POST", SLICES, a_slice("s"))["metadata"]
    for wrong in ({"uid": "00000000-0000-4000-8000-000000000000"}, {"resourceVersion": "1"}):
        with pytest.raises(Conflict, match="409 Conflict"):
            api.send("DELETE", f"{SLICES}/s", _options({**_identity(meta), **wrong}))
    api.send("DELETE", f"{SLICES}/s", _options(_identity(meta)))
    with pytest.raises(NotFound):
        api.send("GET", f"{SLICES}/s")


def test_finalizers_delay_a_deletion(api: Api) -> None:
    """The object stays, marked, until the last finalizer is taken away."""
    claim: JsonObject = {"metadata": {"name": "c", "finalizers": ["contract.test/hold"]}, "spec": {}}
    api.send("POST", api.claims, claim)
    api.send("DELETE", f"{api.claims}/c")
    held = api.send("GET", f"{api.claims}/c")
    assert held["metadata"]["deletionTimestamp"].endswith("Z")
    held["metadata"]["finalizers"] = []
    api.send("PUT", f"{api.claims}/c", held)
    with pytest.raises(NotFound):
        api.send("GET", f"{api.claims}/c")


def test_a_merge_patch_changes_what_it_names(api: Api) -> None:
    """Null removes, the rest stays (RFC 7386)."""
    labelled = a_slice("s")
    labelled["metadata"]["labels"] = {"a": "1", "b": "2"}
    api.send("POST", SLICES, labelled)
    patch = {"metadata": {"labels": {"a": None, "c": "3"}}}
    patched = api.send("PATCH", f"{SLICES}/s", patch, content_type="application/merge-patch+json")
    assert patched["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert patched["spec"]["driver"] == "gpu.hami.io"


def test_the_object_and_its_status_are_written_apart(api: Api) -> None:
    """A claim is created without status; writing one half leaves the other alone."""
    claim = {"metadata": {"name": "c"}, "spec": {}, "status": {"reservedFor": [_pod("x")]}}
    created = api.send("POST", api.claims, claim)
    assert not created.get("status")
    created["status"] = {"reservedFor": [_pod("y")]}
    assert not api.send("PUT", f"{api.claims}/c", created).get("status")
    created["metadata"]["labels"] = {"only": "status"}
    with_allocation = api.add_claim("00000000-0000-4000-8000-000000000001", name="d")
    assert with_allocation["status"]["allocation"]["devices"]["results"][0]["device"] == "gpu"


def test_a_lease_is_updated_at_a_version_only(api: Api) -> None:
    """Two candidates cannot both take it."""
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
    body: JsonObject = {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15}}
    lease = api.send("POST", leases, body)
    with pytest.raises(Invalid, match="must be specified for an update"):
        api.send("PUT", f"{leases}/l", body)
    lease["spec"]["holderIdentity"] = "b"
    api.send("PUT", f"{leases}/l", lease)
    with pytest.raises(Conflict):
        api.send("PUT", f"{leases}/l", lease)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"devices": [{"name": f"d{i}"} for i in range(129)]}, "Too many"),
        ({"devices": [{"name": "same"}, {"name": "same"}]}, "Duplicate value"),
        ({"devices": [{"name": "Not_A_Label"}]}, "Invalid value"),
        ({"devices": [{"name": "d", "attributes": {"v": {"version": "580.95.05"}}}]}, r"semver\.org"),
        ({"devices": [{"name": "d", "attributes": {"v": {"string": "x" * 65}}}]}, "Too long"),
        ({"devices": [{"name": "d", "attributes": {"v": {"string": "x", "int": 1}}}]}, "exactly one value"),
        ({"devices": [{"name": "d", "attributes": {"v": {}}}]}, "exactly one value"),
        ({"devices": [shareable("d") | {"allowMultipleAllocations": False}]}, "requestPolicy"),
        ({"nodeName": None}, "exactly one"),
        ({"driver": None}, r"spec\.driver"),
        ({"pool": {"name": "p", "generation": 1, "resourceSliceCount": 0}}, "resourceSliceCount"),
        ({"pool": {"generation": 1, "resourceSliceCount": 1}}, r"pool\.name"),
    ],
)
def test_a_slice_that_breaks_a_rule_is_refused_with_the_place(api: Api, wrong: JsonObject, why: str) -> None:
    """Limits and forms of ResourceSlices, before anything is stored."""
    body = a_slice("wrong")
    body["spec"] = {key: value for key, value in {**body["spec"], **wrong}.items() if value is not None}
    with pytest.raises(Invalid, match=f"422 Invalid.*{why}"):
        api.send("POST", SLICES, body)
    assert api.send("GET", SLICES)["items"] == []


def test_up_to_128_plain_devices_fit_into_a_slice_and_64_with_taints(api: Api) -> None:
    """The richer kind has the lower limit (1.35 and later)."""
    plain = [{"name": f"d{i}"} for i in range(128)]
    assert len(api.send("POST", SLICES, a_slice("plain", devices=plain))["spec"]["devices"]) == 128
    taint = {"key": "gpu.hami.io/health", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"}
    tainted = [{"name": f"d{i}", "taints": [taint]} for i in range(65)]
    with pytest.raises(Invalid, match="Too many: 65"):
        api.send("POST", SLICES, a_slice("tainted", devices=tainted))
    assert api.send("POST", SLICES, a_slice("tainted", devices=tainted[:64]))["spec"]["devices"] == tainted[:64]


@pytest.mark.parametrize("field", ["driver", "nodeName", "pool"])
def test_what_identifies_a_slice_cannot_change(api: Api, field: str) -> None:
    """Driver, node and pool name are for life."""
    made = api.send("POST", SLICES, a_slice("s"))
    made["spec"][field] = {**made["spec"]["pool"], "name": "other"} if field == "pool" else "other.example.com"
    with pytest.raises(Invalid, match="immutable"):
        api.send("PUT", f"{SLICES}/s", made)


def test_open_gates_keep_what_was_written(api: Api) -> None:
    """With consumable capacity on, a shareable device comes back as it went."""
    assert api.send("POST", SLICES, a_slice("s", devices=[shareable("gpu")]))["spec"]["devices"] == [shareable("gpu")]


COUNTED = {"name": "card", "counters": {"slices": {"value": "7"}}}
CONSUMES = [{"counterSet": "card", "counters": {"slices": {"value": "1"}}}]


def test_a_dry_run_answers_what_would_be_kept_and_keeps_nothing(api: Api) -> None:
    """Fields and rules are those of a real write."""
    body = a_slice("dry", devices=[shareable("gpu")])
    answer = api.send("POST", SLICES, body, query={"dryRun": "All"})
    assert answer["spec"]["devices"] == [shareable("gpu")]
    with pytest.raises(Invalid, match="Duplicate value"):
        api.send("POST", SLICES, a_slice("dry", devices=[{"name": "d"}, {"name": "d"}]), query={"dryRun": "All"})
    assert api.send("GET", SLICES)["items"] == []


def test_a_dry_run_finds_the_closed_gates(closed_api: Api) -> None:
    """What the publisher asks before it publishes."""
    closed: set[str] = set()
    for gates, spec in probes(node=NodeName("n1"), pool=PoolName("n1/gpu")):
        body = {"metadata": {"generateName": "n1-probe-"}, "spec": spec}
        try:
            kept = closed_api.send("POST", SLICES, body, query={"dryRun": "All"})
        except Invalid:
            closed |= gates
        else:
            closed |= dropped_gates(spec, kept["spec"])
    assert closed == {"DRAConsumableCapacity", "DRADeviceTaints", "DRAPartitionableDevices"}


def test_open_gates_lose_nothing_in_a_dry_run(api: Api) -> None:
    """Neither sharing, nor taints, nor counters that lie in a slice of their own."""
    for _, spec in probes(node=NodeName("n1"), pool=PoolName("n1/gpu")):
        body = {"metadata": {"generateName": "n1-probe-"}, "spec": spec}
        assert dropped_gates(spec, api.send("POST", SLICES, body, query={"dryRun": "All"})["spec"]) == frozenset()


def test_counters_lie_in_slices_of_their_own(api: Api) -> None:
    """What consumes them lies elsewhere, and the server does not look for them there."""
    counters = a_slice("counters", sharedCounters=[COUNTED])
    del counters["spec"]["devices"]
    assert api.send("POST", SLICES, counters)["spec"]["sharedCounters"] == [COUNTED]
    device = {"name": "part", "consumesCounters": CONSUMES}
    assert api.send("POST", SLICES, a_slice("devices", devices=[device]))["spec"]["devices"] == [device]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"devices": [{"name": "d"}], "sharedCounters": [COUNTED]}, "only one of"),
        ({"sharedCounters": [COUNTED | {"name": f"c{i}"} for i in range(9)]}, "Too many"),
        ({"sharedCounters": [COUNTED, COUNTED]}, "Duplicate value"),
        ({"sharedCounters": [{"name": "card", "counters": {}}]}, "counters: Required value"),
        ({"sharedCounters": [{"name": "Card", "counters": COUNTED["counters"]}]}, "Invalid value"),
        ({"sharedCounters": [{"name": "c", "counters": {f"n{i}": {"value": "1"} for i in range(33)}}]}, "Too many"),
        (
            {"devices": [{"name": "d", "consumesCounters": [CONSUMES[0] | {"counterSet": f"c{i}"} for i in range(3)]}]},
            "Too many",
        ),
        ({"devices": [{"name": f"d{i}", "consumesCounters": CONSUMES} for i in range(65)]}, "Too many"),
    ],
)
def test_counters_that_break_a_rule_are_refused(api: Api, wrong: JsonObject, why: str) -> None:
    """8 sets a slice, 32 counters a set, 2 sets a device, 64 devices that consume."""
    body = a_slice("wrong")
    body["spec"] = {**body["spec"], "devices": [], **wrong}
    with pytest.raises(Invalid, match=f"422 Invalid.*{why}"):
        api.send("POST", SLICES, body)


def test_closed_gates_drop_fields_without_a_word(closed_api: Api) -> None:
    """Sharing, policies, taints and counters vanish from slices, capacity requests from claims."""
    rich = shareable("gpu") | {"taints": [{"key": "a", "effect": "NoSchedule"}], "consumesCounters": CONSUMES}
    kept = closed_api.send("POST", SLICES, a_slice("s", devices=[rich]))
    assert kept["spec"]["devices"] == [{"name": "gpu", "capacity": {"memory": {"value": "80Gi"}}}]
    assert "sharedCounters" not in closed_api.send("POST", SLICES, a_slice("c", sharedCounters=[COUNTED]))["spec"]
    exactly = {"deviceClassName": "c", "capacity": {"requests": {"memory": "1Gi"}}}
    claim: JsonObject = {
        "metadata": {"name": "c"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}},
    }
    stored = closed_api.send("POST", closed_api.claims, claim)
    assert "capacity" not in stored["spec"]["devices"]["requests"][0]["exactly"]


def _pod(name: str) -> JsonObject:
    return {"resource": "pods", "name": name, "uid": name}


def _identity(meta: JsonObject) -> JsonObject:
    return {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}


def _options(preconditions: JsonObject) -> JsonObject:
    return {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
