"""From a node configuration to the settings of each card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.api.nodeconfig import CardMode, NodeConfig, WatchdogPolicy, decode_node_config
from hami_dra.core.node_config import entries_for_node, node_settings
from hami_dra.core.settings import CardSettings, WatchdogSettings
from hami_dra.testing.gpus import gpu, inventory

BASE = CardSettings(slots=7)
FIRST, SECOND = gpu(0), gpu(1)


def config(*entries: Mapping[str, Any]) -> NodeConfig:
    """A configuration of these entries."""
    head = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "NodeConfig"}
    return decode_node_config(json.dumps(head | {"entries": entries}))


def settings(*entries: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> list[CardSettings | None]:
    """What these entries mean for the two cards of a node."""
    found = node_settings(config(*entries), labels=labels or {}, inventory=inventory(2), base=BASE)
    return [found.settings_for(FIRST), found.settings_for(SECOND)]


def test_without_entries_the_command_line_holds() -> None:
    """Every card is as the base says, one that was not there a moment ago too."""
    assert settings() == [BASE, BASE]
    assert node_settings(config(), labels={}, inventory=inventory(0), base=BASE).settings_for(FIRST) == BASE


def test_an_entry_sets_what_it_says_and_nothing_else() -> None:
    """All fields of an entry arrive at the card."""
    everything = {
        "mode": "FixedShares",
        "slots": 3,
        "fixedShares": 5,
        "scaling": {"memoryPercent": 150, "coresPercent": 200},
        "defaults": {"memory": "1G", "coresPercent": 25},
        "watchdog": {
            "policy": "Throttle",
            "memoryTolerance": "1Gi",
            "coresTolerancePercent": 1,
            "graceSeconds": 60,
        },
    }
    expected = CardSettings(
        mode=CardMode.FIXED_SHARES,
        slots=3,
        fixed_shares=5,
        memory_percent=150,
        cores_percent=200,
        default_memory_bytes=954 << 20,
        default_cores_percent=25,
        watchdog=WatchdogSettings(
            policy=WatchdogPolicy.THROTTLE, memory_tolerance_bytes=1 << 30, cores_tolerance_percent=1, grace_s=60
        ),
    )
    assert settings(everything) == [expected, expected]
    assert all(getattr(expected, field.name) != getattr(BASE, field.name) for field in fields(BASE))


def test_later_entries_win_field_by_field() -> None:
    """Inside of `scaling` and `watchdog` too; what a later one leaves unsaid stays."""
    found = settings(
        {"slots": 2, "mode": "Whole", "scaling": {"memoryPercent": 200}, "watchdog": {"policy": "Stop"}},
        {"slots": 4, "scaling": {"coresPercent": 300}, "watchdog": {"graceSeconds": 5}},
        {"defaults": {"coresPercent": 10}},
        {"defaults": {"memory": "2Gi"}},
    )
    expected = replace(
        BASE,
        slots=4,
        mode=CardMode.WHOLE,
        memory_percent=200,
        cores_percent=300,
        default_memory_bytes=2 << 30,
        default_cores_percent=10,
        watchdog=WatchdogSettings(policy=WatchdogPolicy.STOP, grace_s=5),
    )
    assert found == [expected, expected]


def test_entries_are_for_the_nodes_that_they_select() -> None:
    """One without a selector is for all nodes, one with an empty one too."""
    entries = (
        {"name": "all", "slots": 1},
        {"name": "too", "nodeSelector": {}},
        {"name": "big", "nodeSelector": {"matchLabels": {"size": "big"}}, "slots": 2},
    )
    assert settings(*entries) == [replace(BASE, slots=1)] * 2
    assert settings(*entries, labels={"size": "big"}) == [replace(BASE, slots=2)] * 2
    assert [entry.name for entry in entries_for_node(config(*entries), {})] == ["all", "too"]


@pytest.mark.parametrize(
    ("devices", "selected"),
    [
        ({"names": [FIRST.name]}, [True, False]),
        ({"uuids": [SECOND.uuid, "GPU-elsewhere"]}, [False, True]),
        ({"indices": [0, 1]}, [True, True]),
        ({"indices": [2]}, [False, False]),
        ({"productNames": ["NVIDIA A100*"]}, [True, True]),
        ({"productNames": ["nvidia A100*"]}, [False, False]),
        ({"productNames": ["A100"]}, [False, False]),
        ({"productNames": ["NVIDIA A?00-SXM4-80GB"]}, [True, True]),
        ({"productNames": ["NVIDIA [A]100*", "NVIDIA.A100*"]}, [False, False]),
        ({"productNames": ["*A100*"], "indices": [1]}, [False, True]),
        ({"uuids": [FIRST.uuid], "indices": [1]}, [False, False]),
    ],
)
def test_devices_single_cards_out(devices: Mapping[str, Any], selected: Sequence[bool]) -> None:
    """One item of each list must fit, and all lists must hold."""
    found = settings({"devices": devices, "mode": "Whole"})
    assert [card is not None and card.mode is CardMode.WHOLE for card in found] == selected


def test_a_card_can_be_left_out_and_taken_in_again() -> None:
    """`exclude` is a field like any other: all but one card is two entries."""
    assert settings({"devices": {"indices": [0]}, "exclude": True}) == [None, BASE]
    assert settings({"exclude": True}, {"devices": {"indices": [0]}, "exclude": False, "slots": 1}) == [
        replace(BASE, slots=1),
        None,
    ]
    assert settings({"exclude": True}, {"slots": 1}) == [None, None]


_ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "slots": st.integers(1, 5),
            "mode": st.sampled_from([str(mode) for mode in CardMode]),
            "devices": st.sampled_from([{"indices": [0]}, {"indices": [1]}]),
            "nodeSelector": st.sampled_from([{"matchLabels": {"a": "b"}}, {"matchLabels": {"a": "c"}}]),
            "exclude": st.booleans(),
        },
    ),
    max_size=5,
)


@given(_ENTRIES)
def test_the_last_word_counts(entries: list[dict[str, Any]]) -> None:
    """For each field and each card, what holds is what the last entry that is for it says."""

    def last(field: str, index: int, default: object) -> object:
        mine = (
            entry
            for entry in reversed(entries)
            if entry.get("devices", {"indices": [index]}) == {"indices": [index]}
            and entry.get("nodeSelector", {"matchLabels": {"a": "b"}}) == {"matchLabels": {"a": "b"}}
        )
        return next((entry[field] for entry in mine if field in entry), default)

    for index, card in enumerate(settings(*entries, labels={"a": "b"})):
        assert (card is None) is last("exclude", index, default=False)
        if card is not None:
            assert (card.slots, str(card.mode)) == (last("slots", index, BASE.slots), last("mode", index, "Shares"))


@given(_ENTRIES)
def test_entries_said_twice_say_the_same(entries: list[dict[str, Any]]) -> None:
    """Laying a configuration over itself changes nothing."""
    assert settings(*entries, *entries, labels={"a": "b"}) == settings(*entries, labels={"a": "b"})
