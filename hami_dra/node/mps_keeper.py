"""Keeps the control daemons of MPS: one for each device that the node plugin asks for, as long as it asks.

A process of its own (`hami-dra mps`), because the clients of a daemon die with it: the node plugin is updated and killed at will,
this one only when a node is drained.  It therefore does next to nothing: looks into one directory a few times a second, starts,
stops, and starts again with a back-off what has ended.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted

__all__ = ["DaemonFiles", "DaemonProcess", "DaemonStarter", "MpsKeeper"]

_log = logging.getLogger(__name__)

_PERIOD_S = 0.2
_STARTING_S = 20.0
"""A daemon that does not answer for so long is ended and started again."""
_SETTLED_S = 60.0
"""A daemon that ran for so long starts its next attempts without delay."""


class DaemonProcess(Protocol):
    """A daemon that was started."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    def ended(self) -> str | None:
        """How it ended; None while it runs."""
        ...

    def ask(self, lines: list[str]) -> str | None:
        """What it answers; None where it does not."""
        ...

    def stop(self) -> None:
        """End it."""
        ...


class DaemonStarter(Protocol):
    """Starts daemons."""

    def start(self, device: GpuUuid, *, pipes: Path, logs: Path) -> DaemonProcess:
        """Start one.  Raises DriverError."""
        ...


class DaemonFiles(Protocol):
    """What is asked for, and what is answered."""

    def keep(self) -> AbstractContextManager[None]:
        """Be the one keeper of this node.  Raises NodeStateError."""
        ...

    def wanted(self) -> Mapping[DeviceName, Wanted]:
        """The daemons that are asked for."""
        ...

    def left(self) -> set[DeviceName]:
        """Those of which there is anything."""
        ...

    def folders(self, device: DeviceName) -> tuple[Path, Path]:
        """Pipe and log directory."""
        ...

    def say(self, device: DeviceName, answer: Answer) -> None:
        """Say how a daemon is."""
        ...

    def remove(self, device: DeviceName) -> None:
        """Remove what is left of one."""
        ...


@dataclass(slots=True)
class _Kept:
    process: DaemonProcess | None = None
    uuid: GpuUuid | None = None
    started_s: float = 0.0
    again_s: float = float("-inf")
    """No earlier than that is it started again."""
    answer: Answer | None = None
    """What was said last."""
    ends: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=1.0, cap_s=30.0))


class MpsKeeper:
    """The daemons of this node."""

    def __init__(
        self, *, files: DaemonFiles, starter: DaemonStarter, group: Group, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """Nothing is started before `run` or `round`."""
        self._files = files
        self._starter = starter
        self._group = group
        self._clock = clock
        self._kept: dict[DeviceName, _Kept] = {}

    def run(self) -> None:
        """Keep them until the group stops; then none is left.

        Raises:
            NodeStateError: another process keeps them.
        """
        with self._files.keep():
            try:
                while not self._group.stopping:
                    try:
                        self.round()
                    except NodeStateError as error:
                        _log.warning("the MPS daemons are not as they should be: %s", error)
                    self._group.wait(_PERIOD_S)
            finally:
                for kept in self._kept.values():
                    if kept.process is not None:
                        kept.process.stop()

    def round(self) -> None:
        """Look what is wanted, and what has ended.

        Raises:
            NodeStateError: something could not be read or said.
        """
        wanted = self._files.wanted()
        for device in self._files.left() - wanted.keys():
            self._end(device)
            self._kept.pop(device, None)
            self._files.remove(device)
        for device, want in wanted.items():
            kept = self._kept.setdefault(device, _Kept())
            if kept.process is not None and kept.uuid != want.uuid:
                self._end(device)
            self._tend(device, kept, want)

    def _end(self, device: DeviceName) -> None:
        kept = self._kept.get(device)
        if kept is not None and kept.process is not None:
            kept.process.stop()
            kept.process = None
            _log.info("MPS daemon ended", extra={"device": device})

    def _tend(self, device: DeviceName, kept: _Kept, want: Wanted) -> None:
        now_s = self._clock.monotonic()
        if kept.process is None:
            if now_s >= kept.again_s:
                self._start(device, kept, want)
            return
        how = kept.process.ended()
        if how is not None:
            kept.process = None
            self._failed(device, kept, how)
        elif kept.answer is None or kept.answer.serves != want:
            if self._configure(kept.process, want):
                _log.info("MPS daemon serves", extra={"device": device, "pid": kept.process.pid})
                self._say(device, kept, Answer(serves=want, ends=kept.ends))
            elif now_s - kept.started_s > _STARTING_S:
                kept.process.stop()

    def _start(self, device: DeviceName, kept: _Kept, want: Wanted) -> None:
        try:
            pipes, logs = self._files.folders(device)
            kept.process = self._starter.start(want.uuid, pipes=pipes, logs=logs)
        except DriverError as error:
            self._failed(device, kept, str(error))
            return
        kept.uuid, kept.started_s = want.uuid, self._clock.monotonic()
        self._say(device, kept, Answer(serves=None, ends=kept.ends, message="it is being started"))

    def _failed(self, device: DeviceName, kept: _Kept, how: str) -> None:
        now_s = self._clock.monotonic()
        if now_s - kept.started_s >= _SETTLED_S:
            kept.backoff.reset()
        kept.ends += 1
        kept.again_s = now_s + kept.backoff.next_s()
        _log.warning("MPS daemon ended: %s", how, extra={"device": device, "ends": kept.ends})
        self._say(device, kept, Answer(serves=None, ends=kept.ends, message=how))

    def _say(self, device: DeviceName, kept: _Kept, answer: Answer) -> None:
        kept.answer = answer
        self._files.say(device, answer)

    def _configure(self, process: DaemonProcess, want: Wanted) -> bool:
        """Tell the daemon, and the servers that it has started already; false where it does not answer."""
        percent, memory = str(want.percent), f"{-(-want.memory_bytes >> 20)}M"
        defaults = [
            f"set_default_active_thread_percentage {percent}",
            f"set_default_device_pinned_mem_limit 0 {memory}",
        ]
        servers = process.ask(["get_server_list"])
        if servers is None or process.ask(defaults) is None:
            return False
        running = [line for line in servers.split() if line.isdigit()]
        lines = [
            line
            for server in running
            for line in (
                f"set_active_thread_percentage {server} {percent}",
                f"set_device_pinned_mem_limit {server} 0 {memory}",
            )
        ]
        return not lines or process.ask(lines) is not None
