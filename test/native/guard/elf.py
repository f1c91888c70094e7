"""Reads what a shared library exports, imports and needs: enough of ELF64 for that, so that the tests need no binutils."""

import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Library", "read_library"]

_SHT_DYNAMIC, _SHT_DYNSYM, _SHT_VERNEED = 6, 11, 0x6FFFFFFE
_DT_NEEDED, _DT_INIT_ARRAYSZ, _DT_INIT = 1, 27, 12
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A shared library's dynamic face."""

    exported: frozenset[str]
    imported: frozenset[str]
    needed: frozenset[str]
    versions: frozenset[str]
    """Symbol versions that it asks others for, such as GLIBC_2.14."""
    constructors: int


def read_library(path: Path) -> Library:
    """Read a little-endian ELF64 file that has section headers."""
    data = path.read_bytes()
    sections = _sections(data)
    exported: set[str] = set()
    imported: set[str] = set()
    needed: set[str] = set()
    versions: set[str] = set()
    constructors = 0
    for kind, offset, size, link, info in sections:
        strings = sections[link][1] if link < len(sections) else 0
        if kind == _SHT_DYNSYM:
            rows = [row for row in _SYMBOL.iter_unpack(data[offset : offset + size]) if row[1] >> 4 != 0]
            exported |= {_text(data, strings + row[0]) for row in rows if row[3] != 0}
            imported |= {_text(data, strings + row[0]) for row in rows if row[3] == 0}
        elif kind == _SHT_DYNAMIC:
            entries = list(struct.iter_unpack("<qQ", data[offset : offset + size]))
            needed |= {_text(data, strings + value) for tag, value in entries if tag == _DT_NEEDED}
            constructors += sum(value // 8 for tag, value in entries if tag == _DT_INIT_ARRAYSZ)
            constructors += sum(tag == _DT_INIT for tag, _ in entries)
        elif kind == _SHT_VERNEED:
            versions |= _versions(data, offset, info, strings)
    return Library(
        exported=frozenset(exported),
        imported=frozenset(imported),
        needed=frozenset(needed),
        versions=frozenset(versions),
        constructors=constructors,
    )


def _sections(data: bytes) -> list[tuple[int, int, int, int, int]]:
    start, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    rows = (_SECTION.unpack_from(data, start + i * _SECTION.size) for i in range(count))
    return [(row[1], row[4], row[5], row[6], row[7]) for row in rows]


def _versions(data: bytes, offset: int, count: int, strings: int) -> set[str]:
    found = set()
    for _ in range(count):
        _, auxiliaries, _, first, following = struct.unpack_from("<HHIII", data, offset)
        at = offset + first
        for _ in range(auxiliaries):
            _, _, _, name, next_ = struct.unpack_from("<IHHII", data, at)
            found.add(_text(data, strings + name))
            at += next_
        offset += following
    return found


def _text(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()
