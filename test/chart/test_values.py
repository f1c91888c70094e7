"""The values schema is closed: what the chart does not know it refuses, in words that name the value."""

import json
from typing import Any

import pytest
import yaml

from hacklib.deployment.helm import CHART, Helm
from hacklib.ui import HackError


def _objects(node: Any) -> list[dict[str, Any]]:
    found = []
    if isinstance(node, dict):
        if node.get("type") == "object":
            found.append(node)
        found += [inner for value in node.values() for inner in _objects(value)]
    elif isinstance(node, list):
        found += [inner for value in node for inner in _objects(value)]
    return found


def test_every_object_of_the_schema_is_closed() -> None:
    """No object takes unknown names, but `global` (helm's own) and the parts of an affinity (Kubernetes' own)."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    schema["properties"].pop("global")
    schema["$defs"].pop("affinity")
    assert [node for node in _objects(schema) if node.get("additionalProperties", True) is True] == []


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    """values.yaml and the schema name the same values, so that none is documented only or allowed only."""
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    properties = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))["properties"]
    properties.pop("global")
    assert set(values) == set(properties)
    for name in ("image", "node", "controller", "metrics", "deviceClasses"):
        assert set(values[name]) == set(properties[name]["properties"]), name


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sources": "sim"}, "sources"),
        ({"source": "amd"}, "source"),
        ({"slots": 0}, "slots"),
        ({"slots": "ten"}, "slots"),
        ({"node": {"privileged": True}}, "privileged"),
        ({"image": {"repository": ""}}, "repository"),
        ({"kubeletRoot": "var/lib/kubelet"}, "kubeletRoot"),
        ({"logLevel": "trace"}, "logLevel"),
        ({"node": {"config": {"entries": [{"slots": 0}]}}}, "entries/0/slots"),
        ({"node": {"config": {"entries": [{"mdoe": "Shares"}]}}}, "mdoe"),
        ({"node": {"config": {"entries": [{"mode": "Share"}]}}}, "mode"),
        ({"node": {"config": {"entries": [{"nodeSelector": {"matchLabels": {"gpu": True}}}]}}}, "matchLabels/gpu"),
        ({"node": {"config": {"key": "a b"}}}, "key"),
        ({"deviceClasses": {"extra": [{"name": "Burst"}]}}, "name"),
        ({"deviceClasses": {"extra": [{"name": "burst", "config": {"qos": "Fast"}}]}}, "qos"),
        ({"deviceClasses": {"extra": [{"name": "burst", "config": {"priorty": "High"}}]}}, "priorty"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: dict[str, Any], named: str) -> None:
    """A typing error ends the installation with a message that names the value."""
    with pytest.raises(HackError, match=named):
        helm.template(values=values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"source": "sim", "driverRoot": "/var/lib/simgpu"},
        {"metrics": {"scrapeAnnotations": True}, "controller": {"replicas": 2}},
        {"global": {"anything": 1}, "imagePullSecrets": [{"name": "registry"}]},
        {"node": {"affinity": {"nodeAffinity": {}}, "tolerations": [], "nodeSelector": {"gpu": "yes"}}},
    ],
)
def test_sensible_values_pass_lint(helm: Helm, values: dict[str, Any]) -> None:
    """`helm lint --strict` has nothing to say about values that people use."""
    helm.lint(values=values)
