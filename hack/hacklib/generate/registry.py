"""The generators, by name.

A generator is a function from the repository's root to the text of every file it makes; it reads its sources below the root
and writes nothing.  A new one is a module beside this one and a line in `GENERATORS`.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from hacklib.generate import abi, hooks, proto, schema, versions

__all__ = ["GENERATORS", "Generator", "stale", "write"]

Generator = Callable[[Path], dict[Path, str]]

GENERATORS: Mapping[str, Generator] = {
    "abi": abi.generate,
    "hooks": hooks.generate,
    "protobuf": proto.generate,
    "schema": schema.generate,
    "versions": versions.generate,
}


def stale(root: Path, names: Iterable[str] = GENERATORS) -> list[Path]:
    """The files below `root` that the named generators would change, sorted."""
    return sorted(path for path, text in _texts(root, names).items() if _read(root / path) != text)


def write(root: Path, names: Iterable[str] = GENERATORS) -> list[Path]:
    """Write what is stale and return it."""
    changed = stale(root, names)
    texts = _texts(root, names)
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(texts[path], encoding="utf-8")
    return changed


def _texts(root: Path, names: Iterable[str]) -> dict[Path, str]:
    return {path: text for name in names for path, text in GENERATORS[name](root).items()}


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
