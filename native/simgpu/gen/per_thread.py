"""Writes the twins of functions for which the default stream is that of the calling thread (`_ptds`, `_ptsz`)."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["write_twins"]

DEFINITION = re.compile(r"^CUresult (cu[A-Z]\w*)\(([^{;]*)\) \{", re.MULTILINE)

HEAD = """#include "stream.h"
#define EXPORT __attribute__((visibility("default")))
"""


def parameters(sources: Iterable[Path]) -> dict[str, str]:
    """The parameters of each function that the sources define, as they are written there."""
    found: dict[str, str] = {}
    for source in sources:
        found.update(DEFINITION.findall(source.read_text(encoding="utf-8")))
    return found


def arguments(declared: str) -> str:
    """`a, b` for `int a, const char *b`."""
    return ", ".join(re.findall(r"(\w+)\s*(?:,|$)", declared)) if declared != "void" else ""


def write_twins(path: Path, twins: Mapping[str, str], sources: Iterable[Path]) -> None:
    """Write for each key of `twins` a function that calls its value with the thread's own default stream."""
    known = parameters(sources)
    lines = [HEAD]
    for name, target in sorted(twins.items()):
        declared = " ".join(known[target].split())
        lines.append(f"EXPORT CUresult {name}({declared});")
        lines.append(f"CUresult {name}({declared}) {{")
        lines.append("  bool before = stream_default_of_thread(true);")
        lines.append(f"  CUresult result = {target}({arguments(declared)});")
        lines.append("  stream_default_of_thread(before);")
        lines.append("  return result;")
        lines.append("}")
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
