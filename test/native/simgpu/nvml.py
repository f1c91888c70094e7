"""A process with stock nvidia-ml-py in it, of which tests ask one call after the other."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pynvml
from native.simgpu.node import Node

__all__ = ["Nvml", "NvmlFailure", "nvml_session", "placement", "placements", "profiles"]

PROFILE_NUMBERS = range(pynvml.NVML_GPU_INSTANCE_PROFILE_COUNT)


class NvmlFailure(Exception):
    """NVML answered with an error."""

    def __init__(self, call: str, code: int) -> None:
        """Remember the error."""
        super().__init__(f"{call}: NVML error {code}")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Nvml:
    """The session; handles are what the process gives out."""

    process: subprocess.Popen[str]

    def send(self, call: str, *arguments: Any) -> None:
        """Begin a call; `receive` hears how it ends."""
        assert self.process.stdin is not None
        print(json.dumps({"call": call, "arguments": arguments}), file=self.process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """The answer to the call that was sent."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of pynvml, without the `nvml` of its name."""
        self.send(f"nvml{name}", *arguments)
        answer = self.receive()
        if "error" in answer:
            raise NvmlFailure(name, answer["error"])
        return answer["value"]

    def error(self, name: str, *arguments: Any) -> int:
        """The code with which a call fails; 0 if it does not."""
        try:
            self.call(name, *arguments)
        except NvmlFailure as failure:
            return failure.code
        return 0

    def listed(self, name: str, handle: Any, key: int, *, kind: str) -> list[Any]:
        """Call a function that fills an array and counts what it filled in."""
        self.send(f"nvml{name}", handle, key, {"type": kind, "length": 8}, {"type": "c_uint", "value": [8]})
        answer = self.receive()
        if "error" in answer:
            raise NvmlFailure(name, answer["error"])
        array, count = answer["outputs"]
        return list(array[:count])

    def card(self, index: int = 0) -> Any:
        """The handle of a card."""
        return self.call("DeviceGetHandleByIndex", index)


@contextmanager
def nvml_session(node: Node) -> Iterator[Nvml]:
    """NVML, started."""
    with node.running_client("nvml_session") as process:
        nvml = Nvml(process=process)
        nvml.call("Init")
        yield nvml


def profiles(nvml: Nvml, card: Any) -> dict[str, dict[str, Any]]:
    """All profiles of GPU instances, found as NVML's documentation says: by asking for each number."""
    found = {}
    for number in PROFILE_NUMBERS:
        nvml.send("nvmlDeviceGetGpuInstanceProfileInfo", card, number)
        answer = nvml.receive()
        if "value" in answer:
            found[answer["value"]["name"].removeprefix("MIG ")] = answer["value"]
    return found


def placements(nvml: Nvml, card: Any, profile: int) -> list[tuple[int, int]]:
    """Where instances of a profile may lie."""
    kind = "c_nvmlGpuInstancePlacement_t"
    found = nvml.listed("DeviceGetGpuInstancePossiblePlacements", card, profile, kind=kind)
    return [(placement["start"], placement["size"]) for placement in found]


def placement(start: int, size: int) -> dict[str, Any]:
    """A placement, as an argument."""
    return {"type": "c_nvmlGpuInstancePlacement_t", "value": [start, size]}
