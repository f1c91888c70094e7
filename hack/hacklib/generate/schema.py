"""From the models of hami_dra/api to api/schema, and to whatever else repeats them.

JSON Schema for editors, admission policies and other languages; the part of the chart's values that is rendered as it is; and the
table of fields in docs/configuration.md.
"""

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["generate"]


def generate(root: Path) -> dict[Path, str]:
    """One schema for each version of each kind, and what is made of NodeConfig's."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    from hami_dra.api.nodeconfig import NodeConfig  # noqa: PLC0415 - the tree to generate for is only known now
    from hami_dra.api.opaque.v1alpha1 import GpuConfig  # noqa: PLC0415

    schemas = {"gpuconfig": GpuConfig.model_json_schema(), "nodeconfig": NodeConfig.model_json_schema()}
    files = {
        Path(f"api/schema/{name}-v1alpha1.json"): json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$id": f"https://gpu.hami.io/schema/{name}-v1alpha1.json",
                **schema,
            },
            indent=2,
        )
        + "\n"
        for name, schema in schemas.items()
    }
    return files | _guide(root, schemas["nodeconfig"]) | _chart(root, schemas["nodeconfig"])


def _guide(root: Path, schema: dict[str, Any]) -> dict[Path, str]:
    path = Path("docs/configuration.md")
    text = (root / path).read_text(encoding="utf-8")
    return {path: _with_table(text, _table(schema))}


def _chart(root: Path, schema: dict[str, Any]) -> dict[Path, str]:
    """The chart's schema, with `node.config.entries` as the model has them: a wrong one fails before it is installed."""
    path = Path("deploy/helm/hami-dra/values.schema.json")
    values = json.loads((root / path).read_text(encoding="utf-8"))
    entries = schema["properties"]["entries"]
    values["properties"]["node"]["properties"]["config"]["properties"]["entries"] = {
        "type": "array",
        "items": entries["items"],
    }
    values["$defs"] = {name: each for name, each in values["$defs"].items() if name[0].islower()} | schema["$defs"]
    return {path: json.dumps(values, indent=2) + "\n"}


_BEGIN = "<!-- fields: begin (made by hack/generate) -->\n"
_END = "<!-- fields: end -->\n"


def _with_table(text: str, table: str) -> str:
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return before + _BEGIN + table + _END + after


def _table(schema: dict[str, Any]) -> str:
    """A row for each field, with its path, what it may be, and what it means."""
    head = "| field | value | meaning |\n| --- | --- | --- |\n"
    return head + "".join(
        f"| `{path}` | {_value(schema, field)} | {field['description'].replace('|', chr(92) + '|')} |\n"
        for path, field in _fields(schema, schema, "")
    )


def _fields(schema: dict[str, Any], node: dict[str, Any], prefix: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name, field in node["properties"].items():
        inner = _resolved(schema, field)
        item = _resolved(schema, inner.get("items", {}))
        path = f"{prefix}{name}" + ("[]" if inner.get("type") == "array" else "")
        found.append((path, field))
        for each in (inner, item):
            if "properties" in each:
                found += _fields(schema, each, f"{path}.")
    return found


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    """What a field is when it is there: behind its reference, and without null."""
    choices = [each for each in field.get("anyOf", []) if each.get("type") != "null"]
    if len(choices) == 1:
        (field,) = choices
    if "$ref" in field:
        field = schema["$defs"][field["$ref"].rpartition("/")[2]]
    return field


def _value(schema: dict[str, Any], field: dict[str, Any]) -> str:
    kind = _resolved(schema, field)
    if kind.get("type") == "array":
        return f"list of {_value(schema, kind['items'])}"
    if "const" in kind:
        return f"`{kind['const']}`"
    if "enum" in kind:
        return ", ".join(f"`{each}`" for each in kind["enum"])
    if "minimum" in kind and "maximum" in kind:
        return f"{kind['minimum']} to {kind['maximum']}"
    if "anyOf" in kind:
        return "quantity"
    kind_of = str(kind["type"])
    names = {"object": "object" if "properties" in kind else "map of text", "string": "text"}
    return names.get(kind_of, kind_of)
