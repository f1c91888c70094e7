"""JSON that remembers duplicate keys.

`json` keeps the last of two equal keys and says nothing, and an API server hands opaque parameters through as they were sent.
`loads` gives plain dicts, except that an object with a duplicate becomes a `DuplicateKeys`, which whoever must be strict looks
for with `find_duplicate`.  Everybody else sees an ordinary dict.
"""

import json
from typing import Any

__all__ = ["DuplicateKeys", "find_duplicate", "from_pairs", "loads"]


class DuplicateKeys(dict[str, Any]):
    """An object in which `key` came more than once; the last value won."""

    key: str = ""


def loads(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: not JSON (also when it is nested too deeply).
    """
    try:
        return json.loads(text, object_pairs_hook=from_pairs)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def find_duplicate(value: object) -> str | None:
    """The first duplicate key anywhere below `value`, as a dotted path, or None."""
    if isinstance(value, DuplicateKeys):
        return value.key
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        if (found := find_duplicate(child)) is not None:
            return f"{name}.{found}"
    return None


def from_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of these keys and values, marked where a key comes twice; for parsers of other notations too."""
    plain = dict(pairs)
    if len(plain) == len(pairs):
        return plain
    marked = DuplicateKeys(plain)
    keys = [key for key, _ in pairs]
    marked.key = next(key for key in keys if keys.count(key) > 1)
    return marked
