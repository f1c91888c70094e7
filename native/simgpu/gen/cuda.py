"""Makes the tables, stubs and twins of the simulated libcuda.

From NVIDIA's public headers and a list of the names that a driver exports: a table for cuGetProcAddress, the names of the
errors, for every `_ptds` and `_ptsz` name a call with the thread's own default stream, for every name of `same` a jump to the
function it is the twin of, and for every other name that no source file defines a function that returns CUDA_ERROR_NOT_SUPPORTED.
"""

import argparse
import collections
import re
from collections.abc import Iterable
from pathlib import Path

from per_thread import write_twins
from stubs import write_stubs

DEFINED = re.compile(r"^CUresult (cu[A-Z]\w*)\(", re.MULTILINE)
NOT_SUPPORTED = 801
FIRST_VERSION = 2000
SPECIAL_TEXTS = {
    "CUDA_SUCCESS": "no error",
    "CUDA_ERROR_INVALID_VALUE": "invalid argument",
    "CUDA_ERROR_NOT_INITIALIZED": "initialization error",
    "CUDA_ERROR_NO_DEVICE": "no CUDA-capable device is detected",
    "CUDA_ERROR_INVALID_DEVICE": "invalid device ordinal",
    "CUDA_ERROR_INVALID_CONTEXT": "invalid device context",
    "CUDA_ERROR_NOT_FOUND": "named symbol not found",
    "CUDA_ERROR_NOT_SUPPORTED": "operation not supported",
}


def without_twin(name: str) -> str:
    """`cuMemcpy` for `cuMemcpy_ptds`."""
    return re.sub(r"_pt(ds|sz)$", "", name)


def split(name: str) -> tuple[str, int]:
    """`("cuMemAlloc", 2)` for `cuMemAlloc_v2`."""
    found = re.fullmatch(r"(\w+?)_v(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 1)


def declared_names(include: Path) -> set[str]:
    """Exported names that cuda.h declares, those behind its macros too."""
    text = (include / "cuda.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"CUresult\s+CUDAAPI\s+(cu[A-Z]\w+)\s*\(", text))
    renamed = set(re.findall(r"#\s*define\s+cu[A-Z]\w+\s+(?:__CUDA_API_\w+\()?(cu[A-Z]\w+)", text))
    return declared | renamed


def versions(include: Path) -> dict[str, list[int]]:
    """The CUDA versions at which each function's ABI changed, oldest first."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    for header in ("cudaTypedefs.h", "cudaProfilerTypedefs.h"):
        text = (include / header).read_text(encoding="utf-8")
        # The typedefs of per-thread twins carry the twin's version: `_v7000_ptds` says nothing of the function's own ABI.
        for name, version in re.findall(r"\*PFN_(cu\w+?)_v(\d+)\)", text):
            found[name].add(int(version))
    return {name: sorted(numbers) for name, numbers in found.items()}


def procedures(names: Iterable[str], include: Path) -> list[tuple[str, int, str]]:
    """Rows of (name, version, exported name): the newest exported name belongs to the newest version, and so backwards."""
    known = versions(include)
    by_name: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        by_name[split(name)[0]].append(name)
    rows = []
    for base, exported in by_name.items():
        numbers = known.get(base, [])
        for place, name in enumerate(sorted(exported, key=split, reverse=True)):
            oldest = numbers[0] - 1 if numbers else FIRST_VERSION
            version = numbers[-1 - place] if place < len(numbers) else oldest
            rows.append((base, version, name))
    return sorted(rows)


def errors(include: Path) -> list[tuple[int, str, str]]:
    """Rows of (code, name, text) of CUresult."""
    text = (include / "cuda.h").read_text(encoding="utf-8")
    body = text[text.index("typedef enum cudaError_enum") :]
    body = body[: body.index("} CUresult;")]
    rows = []
    for name, code in re.findall(r"^\s*(CUDA_\w+)\s*=\s*(\d+)", body, re.MULTILINE):
        words = name.removeprefix("CUDA_ERROR_").lower().replace("_", " ")
        rows.append((int(code), name, SPECIAL_TEXTS.get(name, words)))
    return rows


def write_tables(path: Path, *, rows: list[tuple[str, int, str]], exported: set[str], include: Path) -> None:
    """Write the table of cuGetProcAddress and the errors' names."""
    twins = {without_twin(name): name for name in exported if without_twin(name) != name}
    needed = sorted({name for _, _, name in rows} | {twins[name] for _, _, name in rows if name in twins})
    lines = ['#include "table.h"', *(f"extern void {name}(void);" for name in needed)]
    lines.append("const procedure PROCEDURES[] = {")
    for base, version, name in rows:
        twin = f"(void *){twins[name]}" if name in twins else "0"
        lines.append(f'    {{"{base}", {version}, (void *){name}, {twin}}},')
    lines += ["};", "const size_t PROCEDURE_COUNT = sizeof PROCEDURES / sizeof *PROCEDURES;"]
    lines.append("const error_name ERROR_NAMES[] = {")
    lines += [f'    {{{code}, "{name}", "{text}"}},' for code, name, text in errors(include)]
    lines += ["};", "const size_t ERROR_NAME_COUNT = sizeof ERROR_NAMES / sizeof *ERROR_NAMES;", ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Read the headers, the names and the sources; write tables.c, stubs.c and per_thread.c."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--include", "--names", "--same", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("sources", type=Path, nargs="+")
    arguments = parser.parse_args()
    defined = {name for source in arguments.sources for name in DEFINED.findall(source.read_text(encoding="utf-8"))}
    exported = set(arguments.names.read_text(encoding="ascii").split()) | declared_names(arguments.include) | defined
    same = dict(line.split() for line in arguments.same.read_text(encoding="ascii").splitlines() if line)
    twins = {}
    for name in exported - defined:
        target = same.get(without_twin(name), without_twin(name))
        if target in defined and target != name:
            twins[name] = target
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = procedures((name for name in exported if without_twin(name) == name), arguments.include)
    write_tables(arguments.out / "tables.c", rows=rows, exported=exported, include=arguments.include)
    others = {name: target for name, target in twins.items() if without_twin(name) == name}
    write_stubs(arguments.out / "stubs.c", exported - defined - set(twins), others, result=NOT_SUPPORTED)
    own_stream = {name: target for name, target in twins.items() if name not in others}
    write_twins(arguments.out / "per_thread.c", own_stream, arguments.sources)


if __name__ == "__main__":
    main()
