"""Small files of sysfs, read as what they should hold; None for whatever else is found there.

sysfs belongs to the kernel, but kernels differ and files come and go while a driver starts, so that a reader believes nothing:
no file has to be there, to be a file, to be text, or to end.
"""

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["entries", "fields", "hexadecimal", "number", "text"]

_MOST_BYTES = 1 << 16
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_HEXADECIMAL = re.compile(r"(?:0x)?[0-9a-f]{1,16}", re.ASCII)


def text(path: Path) -> str | None:
    """The file without white space around it; None where there is nothing to read."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return None
    return content.decode("utf-8", errors="replace").strip() or None


def number(path: Path) -> int | None:
    """An unsigned decimal number."""
    return _decimal(text(path) or "")


def hexadecimal(path: Path) -> int | None:
    """A hexadecimal number, with 0x before it or without."""
    found = (text(path) or "").lower()
    return int(found, 16) if _HEXADECIMAL.fullmatch(found) else None


def fields(content: str) -> dict[str, int]:
    """KFD's `properties`: lines of a name and an unsigned decimal number.  Lines of any other form are none."""
    found = {}
    for line in content.splitlines():
        name, _, rest = line.strip().partition(" ")
        value = _decimal(rest.strip())
        if name and value is not None:
            found[name] = value
    return found


def entries(directory: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], Path]]:
    """What lies in the directory under names of that form; nothing where there is no directory."""
    try:
        paths = sorted(directory.iterdir())
    except OSError:
        return
    for path in paths:
        if (match := pattern.fullmatch(path.name)) is not None:
            yield match, path


def _decimal(content: str) -> int | None:
    return int(content) if _NUMBER.fullmatch(content) else None
