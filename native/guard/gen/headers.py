"""What NVIDIA's public headers say of the driver's functions: exported names, the CUDA version of each ABI, per-thread twins.

A header is text here, not C: its macros rename what it declares (`cuMemAlloc` is exported as `cuMemAlloc_v2`), and only the
exported names count.
"""

import collections
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Function", "cuda_functions", "nvml_functions", "split"]

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DECLARED_CUDA = re.compile(r"CUresult\s+CUDAAPI\s+(cu[A-Z]\w+)\s*\(")
_RENAMED = re.compile(r"#\s*define\s+(cu[A-Z]\w+)\s+(?:__CUDA_API_(PT[DS][SZ])\()?(cu[A-Z]\w+)")
_INLINE = re.compile(r"static\s+inline\s+CUresult\s+(cu[A-Z]\w+)\s*\(")
_DECLARED_NVML = re.compile(r"DECLDIR\s+(nvml[A-Z]\w+)\s*\(")
_RENAMED_NVML = re.compile(r"#\s*define\s+(nvml[A-Z]\w+)\s+(nvml[A-Z]\w+)\s*$", re.MULTILINE)
_TYPEDEF = re.compile(r"\*PFN_(cu\w+?)_v(\d+)\)")
_NAME = re.compile(r"(?P<base>\w+?)(?:_v(?P<abi>\d+))?(?:_(?P<twin>ptds|ptsz))?")


@dataclass(frozen=True, order=True, kw_only=True)
class Function:
    """One exported function."""

    base: str
    """What cuGetProcAddress is asked for."""
    since: int
    """The CUDA version that brought this ABI, as cuGetProcAddress counts: 11020 for 11.2; 0 in NVML."""
    twin: str
    """`legacy`, or the per-thread twins `ptds` and `ptsz`."""
    name: str


def split(name: str) -> tuple[str, int, str]:
    """`("cuMemcpyHtoD", 2, "ptds")` for `cuMemcpyHtoD_v2_ptds`."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no name of a function")
    return found["base"], int(found["abi"] or 1), found["twin"] or "legacy"


def cuda_functions(include: Path, *, exported: Iterable[str] = ()) -> list[Function]:
    """All functions that cuda.h declares and those that a driver is known to export, sorted."""
    text = _read(include / "cuda.h")
    typedefs = _read(include / "cudaTypedefs.h") + _read(include / "cudaProfilerTypedefs.h")
    renames = _RENAMED.findall(text)
    names = {*exported, *_DECLARED_CUDA.findall(text)}
    for _, twin, target in renames:
        names |= {target, f"{target}_{twin.lower()}"} if twin else {target}
    names -= set(_INLINE.findall(text))
    versions: dict[str, set[int]] = collections.defaultdict(set)
    for base, version in _TYPEDEF.findall(typedefs):
        versions[base].add(int(version))
    # A name that the newest headers turn into another function altogether: its newest version is that other function's.
    elsewhere = {name for name, _, target in renames if split(target)[0] != name}
    found = []
    for base, group in _by_base(names).items():
        known = sorted(versions[base])[: -1 if base in elsewhere else None]
        found += _with_versions(base, group, known)
    return sorted(found)


def nvml_functions(include: Path, *, exported: Iterable[str] = ()) -> list[Function]:
    """All functions that nvml.h declares and those that a driver is known to export, sorted."""
    text = _read(include / "nvml.h")
    names = {*exported, *_DECLARED_NVML.findall(text)}
    names |= {target for _, target in _RENAMED_NVML.findall(text) if target in names}
    return sorted(Function(base=split(name)[0], since=0, twin="legacy", name=name) for name in names)


def _read(path: Path) -> str:
    return _COMMENT.sub(" ", path.read_text(encoding="utf-8"))


def _by_base(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = collections.defaultdict(list)
    for name in names:
        groups[split(name)[0]].append(name)
    return groups


def _with_versions(base: str, names: list[str], versions: list[int]) -> list[Function]:
    """The newest ABI belongs to the newest version, and so backwards; what is older than all versions is of CUDA 2."""
    abis = sorted({split(name)[1] for name in names}, reverse=True)
    since = {abi: versions[-1 - place] if place < len(versions) else 2000 for place, abi in enumerate(abis)}
    return [
        Function(base=base, since=since[abi], twin=twin, name=name)
        for name, (_, abi, twin) in ((name, split(name)) for name in names)
    ]
