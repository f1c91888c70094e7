"""Strict decoding of NodeConfig, from YAML and from JSON."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.api.nodeconfig import CardMode, NodeConfig, Operator, WatchdogPolicy, decode_node_config
from hami_dra.api.nodeconfig.text import parse
from hami_dra.api.strict import ConfigError

ROOT = Path(__file__).resolve().parents[3]
HEAD = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "NodeConfig"}
HEAD_TEXT = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\n"
KEYS = st.text(min_size=1, max_size=80)
"""YAML allows keys of 1024 characters on one line, and JSON writes up to twelve for one."""

EVERYTHING = """
apiVersion: gpu.hami.io/v1alpha1
kind: NodeConfig
entries:
- name: training
  nodeSelector:
    matchLabels: {example.com/pool: training, gpu: yes}
    matchExpressions:
    - {key: zone, operator: In, values: [a, b]}
    - {key: canary, operator: DoesNotExist}
  devices:
    names: [gpu-0000-17-00-0]
    uuids: [GPU-5f4e]
    indices: [0, 1]
    productNames: ["NVIDIA A100*"]
  exclude: false
  mode: FixedShares
  slots: 8
  fixedShares: 5
  scaling: {memoryPercent: 150, coresPercent: 200}
  defaults: {memory: 8Gi, coresPercent: 30}
  watchdog: {policy: Stop, memoryTolerance: 128Mi, coresTolerancePercent: 5, graceSeconds: 30}
"""


def of(*entries: dict[str, Any]) -> str:
    """A configuration of these entries, as JSON."""
    return json.dumps(HEAD | {"entries": list(entries)})


def test_an_empty_configuration_has_no_entries() -> None:
    """Nobody needs to write entries to have a valid configuration."""
    assert decode_node_config(HEAD_TEXT) == decode_node_config(HEAD_TEXT + "entries: []\n")
    assert decode_node_config(HEAD_TEXT).entries == ()


def test_every_field_is_read() -> None:
    """What was said is what is known, and what text is stays text."""
    (entry,) = decode_node_config(EVERYTHING).entries
    assert entry.node_selector is not None
    assert entry.node_selector.match_labels == {"example.com/pool": "training", "gpu": "yes"}
    zone, canary = entry.node_selector.match_expressions
    assert (zone.key, zone.operator, zone.values) == ("zone", Operator.IN, ("a", "b"))
    assert (canary.operator, canary.values) == (Operator.DOES_NOT_EXIST, ())
    assert entry.devices is not None
    assert entry.devices.names == ("gpu-0000-17-00-0",)
    assert entry.devices.uuids == ("GPU-5f4e",)
    assert entry.devices.indices == (0, 1)
    assert entry.devices.product_names == ("NVIDIA A100*",)
    assert (entry.exclude, entry.mode, entry.slots, entry.fixed_shares) == (False, CardMode.FIXED_SHARES, 8, 5)
    assert entry.scaling is not None
    assert (entry.scaling.memory_percent, entry.scaling.cores_percent) == (150, 200)
    assert entry.defaults is not None
    assert (entry.defaults.memory, entry.defaults.cores_percent) == (8 << 30, 30)
    assert entry.watchdog is not None
    assert (entry.watchdog.policy, entry.watchdog.memory_tolerance) == (WatchdogPolicy.STOP, 128 << 20)
    assert (entry.watchdog.cores_tolerance_percent, entry.watchdog.grace_seconds) == (5, 30)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"mdoe": "Shares"}, r"entries\.0\.mdoe: unknown field; gpu.hami.io/v1alpha1 has name, nodeSelector, devices"),
        ({"scaling": {"memory": 2}}, r"entries\.0\.scaling\.memory: unknown field; .* has memoryPercent, coresPercent"),
        (
            {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "x": 1}]}},
            r"entries\.0\.nodeSelector\.matchExpressions\.0\.x: unknown field; .* has key, operator, values",
        ),
        ({"mode": "shares"}, r"entries\.0\.mode: found \"shares\"; .*'Shares'"),
        ({"slots": 0}, r"entries\.0\.slots: found 0; .*greater than or equal to 1"),
        ({"slots": "8"}, r"entries\.0\.slots: found \"8\"; .*valid integer"),
        ({"slots": True}, r"entries\.0\.slots: found true; .*valid integer"),
        ({"fixedShares": 101}, r"entries\.0\.fixedShares: found 101; .*less than or equal to 100"),
        ({"scaling": {"memoryPercent": 0}}, r"entries\.0\.scaling\.memoryPercent: found 0; .*at? ?"),
        ({"scaling": "double"}, r"entries\.0\.scaling: found \"double\"; expected an object"),
        ({"defaults": {"memory": "much"}}, r"entries\.0\.defaults\.memory: found \"much\"; 'much' is not a quantity"),
        ({"defaults": {"memory": 0}}, r"entries\.0\.defaults\.memory: found 0; .*greater than 0"),
        ({"defaults": {"coresPercent": 101}}, r"entries\.0\.defaults\.coresPercent: .*less than or equal to 100"),
        ({"watchdog": {"policy": "Kill"}}, r"entries\.0\.watchdog\.policy: found \"Kill\"; .*'Stop'"),
        ({"watchdog": {"graceSeconds": 0}}, r"entries\.0\.watchdog\.graceSeconds: found 0"),
        ({"exclude": "yes"}, r"entries\.0\.exclude: found \"yes\"; .*valid boolean"),
        ({"name": ""}, r"entries\.0\.name: found \"\""),
        ({"devices": {}}, r"entries\.0\.devices: found {}; expected one of names, uuids, indices, productNames"),
        ({"devices": {"uuids": None}}, r"entries\.0\.devices: .*expected one of names"),
        ({"devices": {"uuids": []}}, r"entries\.0\.devices\.uuids: found \[\]; list should have at least 1 item"),
        ({"devices": {"indices": [-1]}}, r"entries\.0\.devices\.indices\.0: found -1"),
        ({"devices": {"uuids": "GPU-1"}}, r"entries\.0\.devices\.uuids: found \"GPU-1\"; input should be a valid list"),
        ({"nodeSelector": {"matchLabels": {"gpu": True}}}, r"entries\.0\.nodeSelector\.matchLabels\.gpu: found true"),
        ({"nodeSelector": {"matchLabels": {"a b": "c"}}}, r"matchLabels\.a b.*expected a label's key"),
        ({"nodeSelector": {"matchLabels": {"A.b/c": "c"}}}, r"expected a label's key"),
        ({"nodeSelector": {"matchLabels": {"/c": "c"}}}, r"expected a label's key"),
        ({"nodeSelector": {"matchLabels": {f"{'a' * 254}/c": "c"}}}, r"expected a label's key"),
        ({"nodeSelector": {"matchLabels": {"a": "c d"}}}, r"matchLabels\.a: found \"c d\"; expected a label's value"),
        ({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, r"operator In needs values"),
        (
            {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            r"matchExpressions\.0: .*operator Exists takes no values",
        ),
        ({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}}, r"found \"Gt\""),
    ],
)
def test_errors_say_what_and_where(entry: dict[str, Any], message: str) -> None:
    """Each names the path to the field, what was found and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        decode_node_config(of(entry))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "^configuration: found nothing, expected an object of kind NodeConfig"),
        ("- a", r"^configuration: found \[\"a\"\]"),
        ("kind: NodeConfig", "^apiVersion: found nothing, expected gpu.hami.io/v1alpha1"),
        ("apiVersion: gpu.hami.io/v1alpha1\nkind: GpuConfig", '^kind: found "GpuConfig", expected NodeConfig'),
        (HEAD_TEXT + "entries: {mode: Shares}", r"^entries: found .*input should be a valid list"),
        (HEAD_TEXT + "entries: [3]", r"^entries\.0: found 3; expected an object"),
        (HEAD_TEXT + "default: {}", r"^default: unknown field; .* has apiVersion, kind, entries"),
        (HEAD_TEXT + "kind: NodeConfig", "^kind: the key appears twice; keep one"),
        (HEAD_TEXT + "entries: [{mode: Shares, slots: 1, mode: Whole}]", r"^entries\.0\.mode: the key appears twice"),
        (HEAD_TEXT + "entries: [{mode: Foo, slots: 0}]", r"entries\.0\.mode: .*; entries\.0\.slots: "),
        ("a: [b", "^line 1, column 6: "),
        ("a: &x [1]\nb: *x", "^line 2, column 4: aliases are not allowed"),
        ("a:\n  1: 2", "^line 2, column 3: a key must be text; quote it"),
        ("{[a]: 2}", "^line 1, column 2: a key must be text"),
        ("a: 1\n---\nb: 2", "^line 2, column 1: "),
        ("a: !!python/object:os.system x", "^line 1, column 4: "),
        ('a: "\\ud83d"', "^line 1, column 4: half of an escaped character"),
        ("a: \x00", "^not YAML: unacceptable character"),
        ("[" * 3000, "^nested too deeply"),
    ],
)
def test_what_is_no_configuration_at_all_is_refused(text: str, message: str) -> None:
    """Neither a parser's exception nor a half-read document gets through."""
    with pytest.raises(ConfigError, match=message):
        decode_node_config(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("010", "010"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("'1'", "1"),
        ("true", True),
        ("~", None),
        ("", None),
        ("-7", -7),
        ("1.5e3", 1500.0),
    ],
)
def test_only_scalars_of_json_are_more_than_text(text: str, value: object) -> None:
    """No label `on` becomes true and no `010` becomes eight."""
    assert parse(text) == value


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(_json)
def test_json_is_read_as_json(value: object) -> None:
    """Whoever prefers JSON writes JSON: the same values come out, those of long numbers too."""
    assert parse(json.dumps(value)) == value


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever lies in a ConfigMap is refused in words, if it is not a configuration by a miracle."""
    with pytest.raises(ConfigError, match=r"."):
        decode_node_config(text)


@given(key=KEYS.filter(lambda name: name not in NodeConfig.model_json_schema()["properties"]))
def test_no_unknown_key_is_overlooked(key: str) -> None:
    """At the top as in an entry."""
    with pytest.raises(ConfigError, match="unknown field"):
        decode_node_config(json.dumps(HEAD | {key: 1}))
    if key not in NodeConfig.model_json_schema()["$defs"]["Entry"]["properties"]:
        with pytest.raises(ConfigError, match="unknown field"):
            decode_node_config(of({key: 1}))


def test_the_examples_in_the_documentation_are_valid() -> None:
    """Whoever copies one from the guide or from the README has a configuration that is accepted."""
    guide, readme = ((ROOT / name).read_text(encoding="utf-8") for name in ("docs/configuration.md", "README.md"))
    (example,) = [block for block in _blocks(guide) if "kind: NodeConfig" in block]
    assert len(decode_node_config(example).entries) == 4
    (values,) = [parse(block) for block in _blocks(readme) if block.startswith("node:")]
    assert len(decode_node_config(of(*values["node"]["config"]["entries"])).entries) == 3


def _blocks(text: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
