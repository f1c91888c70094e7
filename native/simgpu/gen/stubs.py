"""Writes C source for exported names that have no function of their own."""

from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["write_stubs"]


def write_stubs(path: Path, stubs: Iterable[str], twins: Mapping[str, str], *, result: int) -> None:
    """Write functions that return `result` for `stubs`, and for each key of `twins` a jump to its value.

    A jump, because it needs no prototype; and not an alias, because programs tell functions apart by their addresses.
    """
    lines = [
        f'#define STUB(name) __attribute__((visibility("default"))) int name(void) {{ return {result}; }}',
        "#if defined(__x86_64__)",
        '#define JUMP "jmp "',
        "#elif defined(__aarch64__)",
        '#define JUMP "b "',
        "#endif",
        "#define TWIN(name, of) \\",
        '  __asm__(".text\\n.p2align 4\\n.globl " #name "\\n.type " #name ", %function\\n" #name ":\\n\\t" JUMP #of \\',
        '          "\\n.size " #name ", .-" #name "\\n.globl " #of "\\n");',
        *(f"int {name}(void);" for name in sorted(stubs)),
        *(f"STUB({name})" for name in sorted(stubs)),
        *(f"TWIN({name}, {target})" for name, target in sorted(twins.items())),
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
