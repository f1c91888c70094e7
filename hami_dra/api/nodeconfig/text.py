"""YAML as configuration needs it: plain values, nothing guessed, nothing lost.

Of YAML's scalars only those of JSON are more than text (YAML 1.2's core schema: `true`, `null`, numbers), so that `yes`, `on`,
`010` and `12:30` stay what was written.  A duplicate key marks its object as `_lib.strictjson` does.  Aliases are refused: a
few lines of them expand to gigabytes.  JSON is YAML, and is read as such.
"""

import re
from typing import Any

import yaml

from hami_dra._lib.strictjson import from_pairs

__all__ = ["parse"]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - as the base class has it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.MarkedYAMLError(problem="aliases are not allowed; write the value out", problem_mark=mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def parse(text: str) -> Any:
    """The one document of `text`.

    Raises:
        ValueError: not YAML, more than one document, an alias, or nested too deeply; says where.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _plain(loader, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "the document"
        raise ValueError(f"{where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    finally:
        if loader is not None:
            loader.dispose()


def _plain(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return from_pairs([(_key(loader, key), _plain(loader, value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item) for item in node.value]
    value = loader.construct_object(node)
    return _joined(value, node) if isinstance(value, str) else value


def _key(loader: _Loader, node: yaml.Node) -> str:
    key = loader.construct_object(node) if isinstance(node, yaml.ScalarNode) else None
    if not isinstance(key, str):
        raise yaml.MarkedYAMLError(problem="a key must be text; quote it", problem_mark=node.start_mark)
    return _joined(key, node)


def _joined(text: str, node: yaml.Node) -> str:
    """JSON writes characters beyond the first 65,536 as two escapes, which YAML leaves as they are."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise yaml.MarkedYAMLError(problem="half of an escaped character", problem_mark=node.start_mark) from error
