"""What ended daemons mean for the health of their cards: nothing new there until the daemon is back.

Wraps the sensor of the vendor whose cards have daemons, and adds to what that says.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from hami_dra.core.device_health import Effect, Ends, Fault, Pulse
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import card_of
from hami_dra.node.ports import HealthSensor, MpsDaemons

__all__ = ["MpsSensor"]

_ENDED: Final = Fault(
    key="mps",
    value="ended",
    effect=Effect.NO_SCHEDULE,
    ends=Ends.ANSWER,
    message="the MPS control daemon of this GPU has ended and is started again",
)


class MpsSensor:
    """The health of cards and of their daemons."""

    def __init__(self, sensor: HealthSensor, daemons: MpsDaemons) -> None:
        """Ask `sensor` for the cards and `daemons` for the rest."""
        self._sensor = sensor
        self._daemons = daemons
        self._served: set[DeviceName] = set()
        """Those that took clients once: nobody marks a card by asking for a daemon that never comes."""

    def faults(self) -> Sequence[tuple[DeviceName, Fault]]:
        """What happened to the cards since the last call.

        Raises:
            DriverError: the driver does not answer.
        """
        return self._sensor.faults()

    def pulses(self, names: Collection[DeviceName]) -> Mapping[DeviceName, Pulse]:
        """How the cards are.

        Raises:
            DriverError: the driver does not answer.
        """
        pulses = dict(self._sensor.pulses(names))
        wanted = self._daemons.wanted()
        self._served &= wanted.keys()
        for device in wanted:
            answer = self._daemons.answer(device)
            if answer is not None and answer.serves is not None:
                self._served.add(device)
            elif device in self._served and (pulse := pulses.get(card_of(device))) is not None:
                pulses[card_of(device)] = replace(pulse, standing=(*pulse.standing, _ENDED))
        return pulses
