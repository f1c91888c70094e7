"""What the tests of the simulated GPU share: a driver root, programs that run on it, and what simctl sees of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hacklib.paths import REPOSITORY

__all__ = ["GIB", "MIB", "Node", "Result", "wait_until"]

CLIENTS = Path(__file__).parent / "clients"
MIB = 1 << 20
GIB = 1 << 30
DEADLINE_S = 20.0


def wait_until(condition: Callable[[], bool], *, what: str) -> None:
    """Return once `condition` holds; fail when it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a program ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What a client printed; fails with its words if it failed."""
        assert self.status == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, kw_only=True)
class Node:
    """A driver root and the programs of the build that made it."""

    root: Path
    build: Path

    @property
    def state_file(self) -> Path:
        """The file that all processes share."""
        return self.root / "dev" / "nvidiactl"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a program on this node."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
        places = {
            "SIMGPU_ROOT": str(self.root),
            "LD_LIBRARY_PATH": str(self.root / "usr" / "lib64"),
            "PYTHONPATH": str(REPOSITORY / "test"),
        }
        return kept | places | dict(extra or {})

    def simctl(self, *arguments: str | Path) -> Result:
        """Run simctl."""
        return self.run([self.build / "simctl", *arguments])

    def create(self, *arguments: str) -> Result:
        """Run `simctl create` for this root."""
        return self.simctl("create", "--root", self.root, *arguments)

    def cards(self) -> list[dict[str, Any]]:
        """What `simctl list` sees."""
        listing: dict[str, Any] = self.simctl("list", "--root", self.root, "--json").json
        cards: list[dict[str, Any]] = listing["cards"]
        return cards

    def used(self, card: int = 0) -> int:
        """Bytes that living processes hold on a card."""
        used: int = self.cards()[card]["used_bytes"]
        return used

    def run(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, user: int | None = None
    ) -> Result:
        """Run a program on this node to its end."""
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(env),
            check=False,
            timeout=100,
            user=user,
        )
        return Result(status=done.returncode, out=done.stdout, err=done.stderr)

    def client(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> Result:
        """Run one of the Python clients."""
        return self.run([sys.executable, CLIENTS / f"{name}.py", *arguments], env=env)

    def exercise(self, *arguments: str) -> Result:
        """Run the C exerciser."""
        return self.run([self.build / "exercise", *arguments])

    def share(self, route: str) -> Result:
        """Run the two C processes that share memory."""
        return self.run([self.build / "share", route])

    def holding(self, size: int, *, prefix: Sequence[str] = ()) -> AbstractContextManager["subprocess.Popen[str]"]:
        """A process that holds `size` bytes of card 0; it is gone after the block."""
        return self._running([*prefix, str(self.build / "exercise"), "hold", str(size)])

    def working(self, *arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
        """A process that keeps card 0 busy; it is gone after the block."""
        return self._running([str(self.build / "workload"), *arguments])

    def running_client(self, name: str) -> AbstractContextManager["subprocess.Popen[str]"]:
        """A Python client that has said that it is ready, and waits for its input; it is gone after the block."""
        return self._running([sys.executable, str(CLIENTS / f"{name}.py")])

    @contextmanager
    def _running(self, command: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment(),
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
