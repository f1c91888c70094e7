"""A program inside a container: does what the suite asks, one JSON array a line, and answers with one JSON value a line.

An error of CUDA is answered as {"error": code}.
"""

import json
import os
import sys
import time
from typing import Any

from gpu.cuda import Cuda, CudaError, Nvml

LAUNCHES_AT_ONCE = 64
LONGEST_LOOP = 1 << 44


class Worker:
    """The state behind the commands."""

    def __init__(self) -> None:
        self._cuda: Cuda | None = None
        self._pieces: list[tuple[str, Any]] = []

    def start(self) -> int:
        """Make a context; the answer is the own pid."""
        self._cuda = Cuda(0)
        return os.getpid()

    @property
    def cuda(self) -> Cuda:
        """The driver."""
        if self._cuda is None:
            raise RuntimeError("start comes first")
        return self._cuda

    def view(self) -> dict[str, int]:
        """What CUDA shows of the memory."""
        return self.cuda.memory()

    def nvml(self) -> dict[str, int]:
        """What NVML shows of the memory."""
        return Nvml(0).memory()

    def allocate(self, route: str, size: int) -> int:
        """Allocate and keep; the answer is the number of pieces."""
        self._pieces.append(self.cuda.allocate(route, size))
        return len(self._pieces)

    def fill(self, route: str, size: int) -> int:
        """Allocate pieces until one is refused; the answer is how many there are."""
        try:
            while True:
                self._pieces.append(self.cuda.allocate(route, size))
        except CudaError as error:
            if error.code != 2:
                raise
        return len(self._pieces)

    def free(self) -> int:
        """Free all."""
        while self._pieces:
            self.cuda.free(self._pieces.pop())
        return 0

    def calibrate(self, seconds: float) -> float:
        """Nanoseconds of one step, of a kernel that runs alone."""
        steps = 1000
        while True:
            took_ns = self.cuda.duration_ns(steps)
            if took_ns > seconds * 1e9:
                return took_ns / steps
            steps *= 2
            if steps > LONGEST_LOOP:
                raise RuntimeError(f"a kernel of {LONGEST_LOOP} steps takes no time")

    def run(self, seconds: float, steps: int, queued: int) -> dict[str, float]:
        """Launch kernels of `steps`, `queued` before each wait; the answer is how many ended, and in which time."""
        done = 0
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            for _ in range(queued):
                self.cuda.launch(steps)
            self.cuda.synchronize()
            done += queued
        return {"kernels": done, "seconds": time.monotonic() - start}

    def launch_cost(self, rounds: int) -> float:
        """Median nanoseconds of a launch of an empty kernel, in batches that fit the hardware's queue."""
        costs = []
        for _ in range(rounds):
            start = time.perf_counter_ns()
            for _ in range(LAUNCHES_AT_ONCE):
                self.cuda.launch(0)
            costs.append((time.perf_counter_ns() - start) / LAUNCHES_AT_ONCE)
            self.cuda.synchronize()
        return sorted(costs)[len(costs) // 2]


def main() -> None:
    """Serve until the input ends."""
    worker = Worker()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer: object = getattr(worker, name)(*arguments)
        except CudaError as error:
            answer = {"error": error.code, "call": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
