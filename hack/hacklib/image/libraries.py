"""The shared libraries that programs and extension modules of an image need from the host.

`ldd` says where the host's loader finds each; libraries that are in the image already (beside a wheel's modules) are
left there.  All others go into the folder where the host keeps its libc: the one place where that loader, which comes
along, is certain to look without a cache or a variable.
"""

import ctypes.util
import os
import re
import subprocess
from pathlib import Path

from hacklib.image import python_files
from hacklib.image.tree import Tree
from hacklib.ui import HackError

__all__ = ["add_libraries", "parse_ldd"]

_ELF = b"\x7fELF"
_FOUND = re.compile(r"^\s+(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_PROGRAM = re.compile(r"^(\S.*):$")
_MISSING = re.compile(r"^\s+(\S+) => not found$")
_ALWAYS = (
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
)
"""Loaded by name at run time (by libc itself, by drivers and by wheels built for an old libc), so that ldd cannot know."""


def add_libraries(tree: Tree) -> None:
    """Add what the ELF files in the tree need.  Raises HackError if the host lacks one of them."""
    own = {source.resolve(): name for name, source in tree.sources() if _is_elf(source)}
    found, missing = parse_ldd(_ldd(sorted(own)))
    for program, names in missing.items():
        if not own.get(Path(program), "").startswith(python_files.WHEELS):  # modules of wheels may be optional
            raise HackError(f"{', '.join(names)}, needed by {program}, not found on this host")
    home = _libc_folder(found)
    for name, path in sorted(found.items()):
        if path.resolve() in own:
            continue
        if name.startswith("/"):  # the loader itself, at the path that programs name
            _add(tree, name, path)
        else:
            _add(tree, str(home / name), path)
    for name in _ALWAYS:
        if (home / name).exists():
            _add(tree, str(home / name), home / name)


def parse_ldd(text: str) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Where each library was found, by the name it is asked for (the loader by its path), and who misses which."""
    found: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    program = ""
    for line in text.splitlines():
        if match := _PROGRAM.match(line):
            program = match[1]
        elif match := _FOUND.match(line):
            found[match["name"] or match["path"]] = Path(match["path"])
        elif match := _MISSING.match(line):
            missing.setdefault(program, []).append(match[1])
    return found, missing


def _ldd(files: list[Path]) -> str:
    done = subprocess.run(["ldd", "/proc/self/exe", *files], capture_output=True, text=True, check=False)
    return done.stdout


def _libc_folder(found: dict[str, Path]) -> Path:
    for name, path in found.items():
        if name.startswith("libc."):
            return path.parent
    raise HackError(f"no C library among what an image needs ({ctypes.util.find_library('c')} on this host)")


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def _add(tree: Tree, name: str, source: Path) -> None:
    """Add a library under its name with /lib, /lib64 and so on meaning /usr/lib..., as in the image."""
    merged = re.sub(r"^/(lib\w*)/", r"/usr/\1/", os.path.normpath(name))
    if merged not in tree:
        tree.file(merged, source)
