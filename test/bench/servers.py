"""Running `costs serve` processes, and asking them for samples with a deadline."""

import selectors
import subprocess
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contenders import Contender

__all__ = ["HungError", "Server", "serving"]

_SAMPLE_BYTES = 4


class HungError(Exception):
    """A process did not answer within its deadline, or ended."""


class Server:
    """One process that makes calls when it is told to."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def tell(self, call: str, *, samples: int, repeats: int) -> None:
        """Send a command without waiting for its answer."""
        if self._process.stdin is None:
            raise AssertionError
        self._process.stdin.write(f"{call} {samples} {repeats}\n".encode())
        self._process.stdin.flush()

    def answer(self, *, samples: int, repeats: int, deadline_s: float = 120.0) -> list[float]:
        """The nanoseconds of one call in each sample of the command that was sent."""
        if self._process.stdout is None:
            raise AssertionError
        wanted, found = samples * _SAMPLE_BYTES, bytearray()
        end = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while len(found) < wanted:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise HungError(f"no answer within {deadline_s} s")
                more = self._process.stdout.read1(wanted - len(found))  # type: ignore[attr-defined] # it is buffered
                if not more:
                    raise HungError(f"ended with status {self._process.wait()}")
                found += more
        return [nanoseconds / repeats for nanoseconds in array("I", bytes(found))]

    def ask(self, call: str, *, samples: int, repeats: int) -> list[float]:
        """Send a command and wait for its samples."""
        self.tell(call, samples=samples, repeats=repeats)
        return self.answer(samples=samples, repeats=repeats)


@contextmanager
def serving(contender: Contender, program: Path, *, number: int = 1) -> Iterator[Sequence[Server]]:
    """That many processes of a contender, started one after another, until the block ends; then they are killed."""
    with ExitStack() as stack:
        servers = []
        for _ in range(number):
            process = stack.enter_context(
                subprocess.Popen(contender.command(program, "serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            stack.callback(process.kill)
            servers.append(Server(process))
            servers[-1].ask("clock", samples=1, repeats=1)
        yield servers
