"""The first process of a namespace: starts components, reaps whatever dies, and does what it is asked through a socket.

One thread, one loop.  A component that dies stays dead until somebody asks for it: a test wants to see that.  The
socket lies in the folder of its owner and speaks one JSON object a line: {"verb": ..., "name": ...} in, {"error":
...} or {"components": ...} out.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from hacklib.cluster.components import Component
from hacklib.ui import HackError

__all__ = ["Processes", "Verb", "ask"]

Verb = Literal["start", "stop", "kill", "restart", "pause", "resume", "list"]
_STOP_DEADLINE_S = 5.0
_MAX_REQUEST = 4096
_TAIL_BYTES = 2000


@dataclass(kw_only=True)
class _Running:
    component: Component
    log: Path
    process: subprocess.Popen[bytes]
    paused: bool = False
    status: int | None = None
    """What waitpid said; None while it runs."""

    @property
    def state(self) -> str:
        if self.status is not None:
            return f"exited {os.waitstatus_to_exitcode(self.status)}"
        return "paused" if self.paused else "running"

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")


@dataclass(kw_only=True)
class Processes:
    """The components of one namespace.  Made and used by its first process only."""

    folder: Path
    logs: Path
    log_prefix: str = ""
    before_start: Callable[[str], None] = lambda _name: None
    """Called with the name of each component that is about to be started."""
    after_start: Callable[[str, int], None] = lambda _name, _pid: None
    """Called with the name and the process id of each component that was started."""
    works: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    """How to see that a component does its work, for those where somebody has to wait for it."""
    _table: dict[str, _Running] = field(default_factory=dict, init=False)
    _jobs: list[_Running] = field(default_factory=list, init=False)

    def start(self, component: Component) -> None:
        """Start a component with its output appended to its log."""
        self.before_start(component.name)
        self._table[component.name] = running = self._spawn(component)
        self.after_start(component.name, running.process.pid)

    def begin(self, component: Component) -> None:
        """Start something that is to end by itself; `finish` waits for it."""
        self._jobs.append(self._spawn(component))

    def finish(self) -> None:
        """Wait for all that `begin` started.  Raises HackError with the end of its log if one of them failed."""
        self.wait_for("what was begun", lambda: all(job.status is not None for job in self._jobs), deadline_s=300)
        for job in self._jobs:
            if job.status:
                raise HackError(f"{job.component.name} {job.state}:\n{job.tail()}")
        self._jobs.clear()

    def _spawn(self, component: Component) -> _Running:
        log = self.logs / f"{self.log_prefix}{component.name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                component.argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Running(component=component, log=log, process=process)

    def check(self, only: str | None = None) -> None:
        """Raise HackError, with the last words of its log, if a component (any, or this one) is not running."""
        self.reap()
        for name, running in self._table.items():
            if running.status is not None and only in {None, name}:
                raise HackError(f"{self.log_prefix}{name} {running.state}:\n{running.tail()}")

    def wait_for(
        self, what: str, test: Callable[[], bool], *, deadline_s: float = 60.0, only: str | None = None
    ) -> None:
        """Wait until `test` holds.  Raises HackError after the deadline or as soon as a component (see `check`) dies."""
        end = time.monotonic() + deadline_s
        while not test():
            self.check(only)
            if time.monotonic() > end:
                raise HackError(f"{what} not ready after {deadline_s:.0f} s; see the logs in {self.logs}")
            time.sleep(0.05)

    def reap(self) -> None:
        """Collect every dead child, orphans of others included: this is the first process of its namespace."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                for running in (*self._table.values(), *self._jobs):
                    if running.process.pid == found[0] and running.status is None:
                        running.status = running.process.returncode = found[1]

    def serve(self, *, lifeline: int | None = None) -> None:
        """Reap and answer requests until the other end of `lifeline` is closed."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        with _listen(self.folder) as listener, selectors.DefaultSelector() as selector:
            selector.register(wake_read, selectors.EVENT_READ)
            selector.register(listener, selectors.EVENT_READ)
            if lifeline is not None:
                selector.register(lifeline, selectors.EVENT_READ)
            while True:
                self.reap()
                ready = [key.fileobj for key, _ in selector.select()]
                if lifeline in ready:
                    return
                if wake_read in ready:
                    os.read(wake_read, _MAX_REQUEST)
                if listener in ready:
                    self._answer(listener)

    def _answer(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.settimeout(5)
            try:
                request = json.loads(connection.recv(_MAX_REQUEST))
                self._act(request["verb"], request.get("name", ""))
                answer: object = {"components": {name: running.state for name, running in self._table.items()}}
            except (HackError, OSError, ValueError, KeyError) as error:
                answer = {"error": str(error)}
            connection.sendall(json.dumps(answer).encode())

    def _act(self, verb: Verb, name: str) -> None:
        self.reap()
        if verb == "list":
            return
        if name not in self._table:
            raise HackError(f"there is no component {name!r}; there are {', '.join(self._table)}")
        running = self._table[name]
        if verb in {"stop", "restart"}:
            self._end(running, signal.SIGTERM)
        elif verb == "kill":
            self._end(running, signal.SIGKILL)
        elif verb in {"pause", "resume"}:
            self._freeze(running, frozen=verb == "pause")
        elif verb != "start":
            raise HackError(f"{verb!r} is not one of {', '.join(get_args(Verb))}")
        if verb in {"start", "restart"}:
            if running.status is None:
                raise HackError(f"{name} is running already")
            self.start(running.component)
            if name in self.works:
                self.wait_for(name, self.works[name], only=name)

    def _freeze(self, running: _Running, *, frozen: bool) -> None:
        if running.status is not None:
            raise HackError(f"{running.component.name} {running.state}: start it first")
        running.paused = frozen
        os.kill(running.process.pid, signal.SIGSTOP if frozen else signal.SIGCONT)
        if frozen:  # its threads go on until one of them has met the signal
            os.waitid(os.P_PID, running.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _end(self, running: _Running, how: signal.Signals) -> None:
        """Signal a component and wait until it is gone; a paused or deaf one is killed."""
        if running.status is None:
            os.kill(running.process.pid, how)
            os.kill(running.process.pid, signal.SIGCONT)
        end = time.monotonic() + _STOP_DEADLINE_S
        while running.status is None:
            if time.monotonic() > end:
                os.kill(running.process.pid, signal.SIGKILL)
            time.sleep(0.01)
            self.reap()


def ask(folder: Path, verb: Verb, name: str = "", *, timeout_s: float = 60.0) -> dict[str, str]:
    """Send one request to the Processes that serve in `folder`; the state of each component by name.

    Raises HackError when nobody serves there or the request is refused.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client, _short(folder) as path:
            client.settimeout(timeout_s)
            client.connect(path)
            client.sendall(json.dumps({"verb": verb, "name": name}).encode())
            client.shutdown(socket.SHUT_WR)
            answer = json.loads(b"".join(iter(lambda: client.recv(_MAX_REQUEST), b"")))
    except (OSError, ValueError) as error:
        raise HackError(f"nobody answers at {folder}/control.sock: {error}") from error
    if "error" in answer:
        raise HackError(answer["error"])
    return dict(answer["components"])


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A short name for the socket in a folder: socket addresses end at 108 bytes, cache folders need not."""
    descriptor = os.open(folder, os.O_PATH)
    try:
        yield f"/proc/self/fd/{descriptor}/control.sock"
    finally:
        os.close(descriptor)


def _listen(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    (folder / "control.sock").unlink(missing_ok=True)
    with _short(folder) as path:
        listener.bind(path)
    listener.listen(16)
    return listener
