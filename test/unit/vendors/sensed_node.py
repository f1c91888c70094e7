"""Says what the sensor of a simulated node says, one line of JSON for each word on standard input; run in a process of its own.

`look` looks at the hardware, `instances` lists MIG devices, `faults` and `pulses` ask the sensor; errors are answers too.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hami_dra.core.errors import DriverError
from hami_dra.core.ids import DeviceName
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root


def main(root: Path, names: list[DeviceName]) -> None:
    """Answer until standard input ends."""
    os.environ["SIMGPU_ROOT"] = str(root)
    discovery = NvidiaDiscovery(driver=Root(path=root, host_path="/"), sysfs=root / "sys", simulated=True)
    sensor = discovery.sensor()

    def answer_to(word: str) -> Any:
        if word == "look":
            return [gpu.name for gpu in discovery.discover().gpus]
        if word == "instances":
            return [instance.uuid for gpu in discovery.discover().gpus for instance in gpu.instances]
        if word == "faults":
            return [[name, fault.key, fault.value, fault.effect] for name, fault in sensor.faults()]
        return {name: asdict(pulse) for name, pulse in sensor.pulses(names).items()}

    for line in sys.stdin:
        try:
            answer = answer_to(line.strip())
        except DriverError as error:
            answer = {"error": type(error).__name__}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    discovery.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [DeviceName(name) for name in sys.argv[2:]])
