"""Makes the stubs and twins of the simulated libnvidia-ml.

From NVIDIA's public header and a list of the names that a driver exports: for every name of `same` a jump to the function
it is the twin of, and for every other name that no source file defines a function that returns NVML_ERROR_NOT_SUPPORTED.
"""

import argparse
import re
from pathlib import Path

from stubs import write_stubs

DEFINED = re.compile(r"^(?:nvmlReturn_t |const char \*)(nvml[A-Z]\w*)\(", re.MULTILINE)
NOT_SUPPORTED = 3


def main() -> None:
    """Read the header, the names and the sources; write stubs.c."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--include", "--names", "--same", "--out"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("sources", type=Path, nargs="+")
    arguments = parser.parse_args()
    defined = {name for source in arguments.sources for name in DEFINED.findall(source.read_text(encoding="utf-8"))}
    header = (arguments.include / "nvml.h").read_text(encoding="utf-8")
    declared = set(re.findall(r"DECLDIR\s+(nvml\w+)\s*\(", header))
    exported = set(arguments.names.read_text(encoding="ascii").split()) | declared | defined
    same = dict(line.split() for line in arguments.same.read_text(encoding="ascii").splitlines() if line)
    twins = {name: same[name] for name in exported - defined if same.get(name) in defined}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_stubs(arguments.out / "stubs.c", exported - defined - set(twins), twins, result=NOT_SUPPORTED)


if __name__ == "__main__":
    main()
