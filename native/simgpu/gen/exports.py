"""Makes the list of the names that older drivers do not export, for simctl, which hides them in the libraries it installs.

A function's CUDA version is that of its typedef in NVIDIA's public headers.  A name that has none, and every name of NVML,
is known only to be in driver 550 or not: those that are not came with the next.
"""

import argparse
import re
from pathlib import Path

from cuda import declared_names, procedures, without_twin

AFTER_550 = 12050


def cuda_exports(include: Path, names: set[str]) -> dict[str, int]:
    """The CUDA version of each name that libcuda exports."""
    every = names | declared_names(include)
    known = {name: version for _, version, name in procedures((n for n in every if without_twin(n) == n), include)}
    found = {}
    for name in every:
        version = known.get(without_twin(name), 0)
        found[name] = max(version, AFTER_550) if name not in names else version
    return found


def nvml_exports(include: Path, names: set[str]) -> dict[str, int]:
    """The same for libnvidia-ml, as far as it is known."""
    header = (include / "nvml.h").read_text(encoding="utf-8")
    return {name: AFTER_550 for name in re.findall(r"DECLDIR\s+(nvml\w+)\s*\(", header) if name not in names}


def main() -> None:
    """Read the headers and the names of driver 550; write exports.c."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--include", "--cuda", "--nvml", "--oldest", "--out"):
        parser.add_argument(option, required=True)
    arguments = parser.parse_args()
    include = Path(arguments.include)
    names = {part: set(Path(getattr(arguments, part)).read_text(encoding="ascii").split()) for part in ("cuda", "nvml")}
    found = cuda_exports(include, names["cuda"]) | nvml_exports(include, names["nvml"])
    rows = sorted((name, version) for name, version in found.items() if version > int(arguments.oldest))
    lines = ['#include "simctl.h"', "const export_since EXPORTS_SINCE[] = {"]
    lines += [f'    {{"{name}", {version}}},' for name, version in rows]
    lines += ["};", "const size_t EXPORTS_SINCE_COUNT = sizeof EXPORTS_SINCE / sizeof *EXPORTS_SINCE;", ""]
    Path(arguments.out).write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
