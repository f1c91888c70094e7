"""Makes the guard's hook table from NVIDIA's headers and our classification (hooks/table.txt).

Writes hook_table.h, the list of all hooked and called functions with their CUDA versions, and hook_index.h, the hash tables that
find them by name.  Fails, and names it, when the headers bring a function that could allocate, launch or tell about either and
that the classification does not know: a new CUDA release must not open a way round the guard that nobody has looked at.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headers import Function, cuda_functions, nvml_functions, split

__all__ = [
    "KINDS",
    "WATCHED",
    "Entry",
    "TableError",
    "calls",
    "entry_of",
    "fnv1a",
    "hooks",
    "read_table",
    "unclassified",
]

KINDS = ("hook", "through", "call")
WATCHED = {
    "CUDA": re.compile(
        r"Alloc|Free|Pool|Mem(Create|Release|Retain|Map|Unmap|Import|Export|GetInfo|Discard|HostRegister)|TotalMem|Mapped"
        r"|Multicast|Array(Create|Destroy)|Managed|Prefetch|Decompress|Import|IpcOpen|IpcClose|MapResources|LogicalEndpoint"
        r"|Launch|[Cc]apture|GraphInstantiate|GraphUpload|GraphExec(Destroy|Update)|GraphDestroy|GraphClone|GraphMem"
        r"|GraphAdd(Node|KernelNode|ChildGraph|Mem)|(Kernel|Graph|Exec)Node(Set|Copy)|ExecChildGraph|GraphConditional"
        r"|CtxCreate|CtxDestroy|CtxDetach|CtxSetLimit|CtxFrom|PrimaryCtx|GreenCtxCreate|GreenCtxDestroy"
        r"|(Module|Library)(Load|Unload)|FuncLoad|Checkpoint|GetProcAddress|GetExportTable|Coredump"
    ),
    "NVML": re.compile(
        r"MemoryInfo|Memory(Limits|Usage)|MemSize|FreeMem|RunningProcess|Process(es)?Util|ProcessDetail|ProcessName|Accounting"
        r"|(?<!NvLink)Utilization|PstatesInfo|GpmM|GpmSampleGet|GetSamples|FieldValues|ProcAddress|ExportTable|Mps"
    ),
}


class TableError(Exception):
    """The classification and the headers do not fit."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the classification."""

    name: str
    kind: str
    reason: str


def read_table(text: str) -> dict[str, Entry]:
    """The lines `name  kind  reason`, by name; what follows a # is a comment.

    Raises:
        TableError: a line cannot be read, a name comes twice, or a `through` has no reason.
    """
    table: dict[str, Entry] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split(maxsplit=2)
        if not words:
            continue
        entry = Entry(name=words[0], kind=words[1] if len(words) > 1 else "", reason=words[2] if words[2:] else "")
        if entry.kind not in KINDS:
            raise TableError(f"line {number}: {entry.name} is {entry.kind or 'nothing'}, not one of {', '.join(KINDS)}")
        if entry.kind == "through" and not entry.reason:
            raise TableError(f"line {number}: {entry.name} is left to the driver without a reason")
        if entry.name in table:
            raise TableError(f"line {number}: {entry.name} comes twice")
        table[entry.name] = entry
    return table


def entry_of(table: Mapping[str, Entry], function: str) -> Entry | None:
    """The line about an exported name: its own, else its family's."""
    return table.get(function) or table.get(split(function)[0])


def unclassified(table: dict[str, Entry], functions: Iterable[Function], *, library: str) -> list[str]:
    """Exported names that should be in the table and are not, sorted."""
    watched = WATCHED[library]
    return sorted(f.name for f in functions if watched.search(f.name) and entry_of(table, f.name) is None)


def hooks(table: dict[str, Entry], functions: Iterable[Function]) -> list[Function]:
    """The hooked functions: every ABI and twin of a hooked family, but those that have lines of their own."""
    found = ((function, entry_of(table, function.name)) for function in functions)
    return sorted(function for function, entry in found if entry is not None and entry.kind == "hook")


def calls(table: dict[str, Entry], functions: Iterable[Function]) -> list[Function]:
    """The functions that the guard calls: exactly the names of the lines."""
    return sorted(f for f in functions if f.name in table and table[f.name].kind == "call")


def fnv1a(text: str) -> int:
    """The hash of hooks.c: 32-bit FNV-1a."""
    value = 2166136261
    for byte in text.encode("ascii"):
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def _check(table: dict[str, Entry], functions: dict[str, list[Function]], *, older: bool) -> None:
    known = {f.name for group in functions.values() for f in group}
    families = known | {split(name)[0] for name in known}
    if not older and (strangers := sorted(set(table) - families)):
        raise TableError(f"no header knows {', '.join(strangers)}")
    for library, group in functions.items():
        if missing := unclassified(table, group, library=library):
            names = "\n  ".join(missing)
            raise TableError(f"the {library} headers bring functions that no line classifies:\n  {names}")


def _rows(macro: str, rows: Sequence[str]) -> list[str]:
    return [f"#define {macro}(X) \\", *(f"  X({row}) \\" for row in rows[:-1]), f"  X({rows[-1]})", ""]


def _table(functions: dict[str, list[Function]], table: dict[str, Entry]) -> str:
    hooked = [
        f"{library}, {f.name}, {f.base}, {f.since}, {f.twin.upper()}"
        for library, group in functions.items()
        for f in hooks(table, group)
    ]
    called = [(library, f.name) for library, group in functions.items() for f in calls(table, group)]
    return "\n".join(
        [
            "/* Generated by gen/hooks.py from hooks/table.txt and NVIDIA's headers. */",
            "#ifndef GUARD_HOOK_TABLE_H",
            "#define GUARD_HOOK_TABLE_H",
            '#include "cuda_api.h"',
            "/* X(library, exported name, name that cuGetProcAddress is asked for, CUDA version of this ABI, twin) */",
            *_rows("GUARD_HOOKS", hooked),
            "/* X(library, exported name) */",
            *_rows("GUARD_CALLS", [f"{library}, {name}" for library, name in called]),
            *(f"typedef __typeof__({name}) {name}_fn;" for _, name in called),
            "#endif",
            "",
        ]
    )


def _slots(keys: Sequence[tuple[str, int]]) -> list[int]:
    """An open-addressed hash table, at most half full, of 1 + the value of each key; 0 is an empty slot."""
    size = 1 << (2 * len(keys)).bit_length()
    slots = [0] * size
    for key, value in keys:
        at = fnv1a(key) % size
        while slots[at]:
            at = (at + 1) % size
        slots[at] = value + 1
    return slots


def _index(hooked: Sequence[Function]) -> str:
    firsts: dict[str, int] = {}
    for place, function in enumerate(hooked):
        firsts.setdefault(function.base, place)
    lines = ["/* Generated by gen/hooks.py: 1 + the hook at the hash of its name; 1 + the first hook of a family. */"]
    for name, keys in (("by_name", [(f.name, i) for i, f in enumerate(hooked)]), ("by_base", [*firsts.items()])):
        slots = _slots(keys)
        lines += [f"static const uint16_t {name}[{len(slots)}] = {{", f"    {', '.join(map(str, slots))}}};"]
    return "\n".join([*lines, ""])


def _names(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").split()


def main() -> int:
    """Read headers and classification, write hook_table.h and hook_index.h; 1 when they do not fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--include", "--table", "--cuda-exports", "--nvml-exports", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--older", action="store_true", help="the headers need not know all names of the table")
    arguments = parser.parse_args()
    functions = {
        "CUDA": cuda_functions(arguments.include, exported=_names(arguments.cuda_exports)),
        "NVML": nvml_functions(arguments.include, exported=_names(arguments.nvml_exports)),
    }
    try:
        table = read_table(arguments.table.read_text(encoding="ascii"))
        _check(table, functions, older=arguments.older)
    except TableError as error:
        sys.stderr.write(f"{arguments.table}: {error}\n")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    hooked = [function for group in functions.values() for function in hooks(table, group)]
    for name, text in (("hook_table.h", _table(functions, table)), ("hook_index.h", _index(hooked))):
        (arguments.out / name).write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
