"""The wall clock of the node plugin on node-1, which jumps while nobody touches the machine's.

A small library (`clock.c`) is preloaded into the plugin's process through the environment of the DaemonSet.  It lies with the
file that holds the offset in the simulated driver root, which the pod has anyway and which no other fault breaks.  Kubelet,
containerd and the API server keep the time.
"""

import json
import platform
import struct
import subprocess
from pathlib import Path

from faults.cluster import SYSTEM

from hacklib.deployment import Site
from hacklib.toolchain import zig_cc
from hami_dra.testing.eventually import eventually

__all__ = ["DAY_S", "DECADE_S", "HOUR_S", "JumpFile", "PluginClock", "build_library"]

HOUR_S = 3600
DAY_S = 24 * HOUR_S
DECADE_S = 3653 * DAY_S
_LIBRARY, _JUMP = "clock.so", "clock.jump"
_WITHIN = Path("/driver-root")
"""Where the node plugin's container has the driver root."""
_LAYOUT = struct.Struct("=qQ")
"""`struct jump` of clock.c: the offset, and the answers that were off by it."""
_HEARD = 20
"""After so many answers it was not only somebody's last look before the jump."""


class JumpFile:
    """The file of an offset."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """No jump yet."""
        self._path.write_bytes(_LAYOUT.pack(0, 0))

    def jump(self, offset_s: int) -> None:
        """Have the clock of whoever has the file mapped be off by so many seconds from now on."""
        with self._path.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", offset_s))

    @property
    def answers(self) -> int:
        """How many answers were off so far."""
        return int(_LAYOUT.unpack(self._path.read_bytes())[1])


class PluginClock:
    """The clock of the node plugin on node-1 of a site; made before, installed after the product."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._folder = site.driver_root(1)
        self._file = JumpFile(self._folder / _JUMP)

    def install(self) -> None:
        """Give the node plugin the library, and wait until it runs with it."""
        build_library(self._folder / _LIBRARY)
        self._file.create()
        environment = {"LD_PRELOAD": str(_WITHIN / _LIBRARY), "HAMI_TEST_CLOCK": str(_WITHIN / _JUMP)}
        variables = [{"name": name, "value": value} for name, value in environment.items()]
        template = {"spec": {"containers": [{"name": "node", "env": variables}]}}
        patch = json.dumps({"spec": {"template": template}})
        system = self._site.kubectl.within(SYSTEM)
        system.run("patch", "daemonset", "hami-dra-node", "--patch", patch)
        system.run("rollout", "status", "daemonset/hami-dra-node", "--timeout=60s", timeout_s=70)

    def jump(self, offset_s: int) -> None:
        """Have it be off by so many seconds from now on."""
        self._file.jump(offset_s)

    def wait_heard(self) -> None:
        """See that the node plugin asks for the time, and gets it wrong: else the jump would be none."""
        before = self._file.answers
        eventually(lambda: self._file.answers >= before + _HEARD, within_s=60.0)


def build_library(path: Path) -> None:
    """Compile clock.c, for the libc of any image."""
    compiler = [*zig_cc(target=f"{platform.machine()}-linux-gnu.2.17"), "-Wall", "-Wextra", "-Werror", "-std=gnu17"]
    options = ["-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-s"]
    source = Path(__file__).with_suffix(".c")
    subprocess.run([*compiler, *options, "-o", path, source, "-ldl", "-lpthread"], check=True)
