"""Prints what discovery finds below a simulated driver root, before and after a card is taken away; run in a process of its own.

NVML is loaded once for the life of a process, so a test that wants its own root needs its own process.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from hami_dra.vendors.nvidia import NvidiaDiscovery, Root


def main(root: Path) -> None:
    """Look three times: at all cards, at what is left, and at all again."""
    os.environ["SIMGPU_ROOT"] = str(root)
    discovery = NvidiaDiscovery(driver=Root(path=root, host_path="/opt/sim"), sysfs=root / "sys", simulated=True)
    looks = [discovery.discover()]
    card = root / "dev" / "nvidia1"
    card.rename(root / "hidden")
    looks.append(discovery.discover())
    (root / "hidden").rename(card)
    looks.append(discovery.discover())
    discovery.close()
    sys.stdout.write(json.dumps([asdict(look) for look in looks]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
