"""What NVIDIA's driver tells of the health of its cards, for whoever watches them.

Uses the session that discovery has open: there is one a process, and it ends when cards come and go.  The event set ends with
it; what happens before the next one is made is seen by the pulses alone.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from hami_dra.core.device_health import Effect, Ends, Fault, Pulse
from hami_dra.core.ids import DeviceName
from hami_dra.vendors.nvidia.health import EventSet, pulse_of
from hami_dra.vendors.nvidia.partitions import MigPartitions
from hami_dra.vendors.pci import address

__all__ = ["NvidiaSensor"]

_log = logging.getLogger(__name__)

_FIXED = Fault(
    key="mig",
    value="needs-reset",
    effect=Effect.NONE,
    ends=Ends.RESET,
    message="the card leaves its MIG mode by a reset only, so it is offered in the mode in which it is",
)


class Sessions(Protocol):
    """Who opens and closes sessions with NVML."""

    loads: int
    """How often the driver was seen to be loaded again."""

    @property
    def partitions(self) -> MigPartitions:
        """Who knows which cards leave their MIG mode by a reset only."""
        ...

    def session(self) -> AbstractContextManager[None]:
        """The session stays open for the block; DriverError where none is open."""
        ...

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have `callback` called before a session ends."""
        ...


class NvidiaSensor:
    """Faults of cards and of partitions, and pulses of cards.  Not for several threads at once."""

    def __init__(self, sessions: Sessions) -> None:
        """Ask in the sessions that another one opens."""
        self._sessions = sessions
        self._events: EventSet | None = None
        self._said = False
        sessions.on_close(self._forget)

    def faults(self) -> Sequence[tuple[DeviceName, Fault]]:
        """What happened to the cards since the last call, or since the session was opened.

        Raises:
            DriverError: the driver does not answer, or no session is open (yet).
        """
        with self._sessions.session():
            if self._events is None:
                self._events = EventSet()
            found = [each for event in self._events.take() for each in event.faults()]
            if self._events.unwatched and not self._said:
                self._said = True
                _log.warning(
                    "the driver tells no events of some GPUs: only what their counters say is seen",
                    extra={"gpus": sorted(self._events.unwatched)},
                )
            return found

    def pulses(self, names: Collection[DeviceName]) -> Mapping[DeviceName, Pulse]:
        """How these cards are; one that fails in a way that says nothing is left out.

        Raises:
            DriverError: as `faults`.
        """
        with self._sessions.session():
            found = {name: pulse_of(address(name)) for name in names}
            loads = self._sessions.loads
        fixed = self._sessions.partitions.fixed
        return {
            name: replace(pulse, loads=loads, standing=(*pulse.standing, *([_FIXED] if name in fixed else [])))
            for name, pulse in found.items()
            if pulse is not None
        }

    def _forget(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            events.close()
