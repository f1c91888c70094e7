"""Laws of server-side apply, for the fake's own implementation."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hami_dra.testing.apiserver.apply import Ownership, merge_patch

_conditions = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from("RS"), "status": st.sampled_from(["True", "False"])}),
    max_size=2,
    unique_by=lambda c: c["type"],
)
_devices = st.lists(
    st.fixed_dictionaries(
        {"driver": st.just("d"), "pool": st.just("p"), "device": st.sampled_from("xy")},
        optional={
            "shareID": st.sampled_from("12"),
            "conditions": _conditions,
            "data": st.dictionaries(st.just("k"), st.integers()),
        },
    ),
    max_size=3,
    unique_by=lambda d: (d["device"], d.get("shareID")),
)
_applies = st.lists(st.tuples(st.sampled_from(["node", "controller", "other"]), _devices), max_size=6)


@given(applies=_applies)
def test_applying_the_same_again_changes_nothing(applies: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """Apply is idempotent, also after others have applied."""
    ownership, status = Ownership(), dict[str, Any]()
    for manager, devices in applies:
        status, _ = ownership.apply(status, {"devices": devices}, manager=manager, force=True)
        again, _ = copy.deepcopy(ownership).apply(status, {"devices": devices}, manager=manager, force=True)
        assert again == status


@given(applies=_applies)
def test_what_everybody_has_withdrawn_is_gone(applies: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """When each manager applies nothing, nothing is left, and what nobody applied is left alone."""
    ownership, status = Ownership(), {"allocation": {"devices": {"results": [1]}}}
    for manager, devices in applies:
        status, _ = ownership.apply(status, {"devices": devices}, manager=manager, force=True)
    for manager in ("node", "controller", "other"):
        status, _ = ownership.apply(status, {}, manager=manager, force=True)
    assert status == {"allocation": {"devices": {"results": [1]}}}


@given(applies=_applies, last=_devices)
def test_everything_that_was_applied_last_is_there(
    applies: list[tuple[str, list[dict[str, Any]]]], last: list[dict[str, Any]]
) -> None:
    """With force, each entry holds at least what its last manager said."""
    ownership, status = Ownership(), dict[str, Any]()
    for manager, devices in applies:
        status, _ = ownership.apply(status, {"devices": devices}, manager=manager, force=True)
    status, conflicts = ownership.apply(status, {"devices": last}, manager="node", force=True)
    stored = {(d["device"], d.get("shareID")): d for d in status.get("devices", [])}
    for wanted in last:
        kept = stored[wanted["device"], wanted.get("shareID")]
        assert kept.get("data", {}) == wanted.get("data", kept.get("data", {}))
        types = {c["type"]: c.get("status") for c in kept.get("conditions", [])}
        assert {c["type"]: c["status"] for c in wanted.get("conditions", [])}.items() <= types.items()
    assert set(conflicts) <= {"controller", "other"}


def test_merge_patch_follows_its_rfc() -> None:
    """The examples of RFC 7386, appendix A."""
    for target, patch, result in (
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "b"}, ["c"], ["c"]),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ):
        assert merge_patch(target, patch) == result
