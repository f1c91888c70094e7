"""A client that does what it is told (test/native/guard/client.c), and is not waited for longer than its deadline."""

import selectors
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from bench.contenders import Contender

__all__ = ["SilentError", "Talker"]


class SilentError(Exception):
    """The client did not answer within the deadline, or ended."""


class Talker:
    """One running client."""

    def __init__(self, process: "subprocess.Popen[str]", *, deadline_s: float) -> None:
        self._process = process
        self._deadline_s = deadline_s

    @classmethod
    @contextmanager
    def running(cls, contender: Contender, program: Path, *, deadline_s: float) -> Iterator[Self]:
        """Start a client; it is killed at the end of the block."""
        with subprocess.Popen(
            contender.command(program, "dlsym"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        ) as process:
            try:
                yield cls(process, deadline_s=deadline_s)
            finally:
                process.kill()

    def start(self) -> Self:
        """Load the driver and make a context."""
        if (self._ask("open"), self._ask("init 0")) != (["1"], ["0"]):
            raise SilentError("no context")
        return self

    def allocate(self, size: int) -> int:
        """The CUresult of a synchronous allocation."""
        return int(self._ask(f"alloc sync {size}")[0])

    def free_bytes(self) -> int:
        """What cuMemGetInfo says is free."""
        return int(self._ask("view")[1])

    def quit(self) -> None:
        """Let it end by itself, and wait for that."""
        self._tell("quit")
        try:
            self._process.wait(timeout=self._deadline_s)
        except subprocess.TimeoutExpired as error:
            raise SilentError(f"did not end within {self._deadline_s} s") from error

    def _tell(self, command: str) -> None:
        if self._process.stdin is None:
            raise AssertionError
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def _ask(self, command: str) -> list[str]:
        if self._process.stdout is None:
            raise AssertionError
        self._tell(command)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._deadline_s):
                raise SilentError(f"no answer to {command!r} within {self._deadline_s} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise SilentError(f"ended at {command!r}")
        return answer.split()
