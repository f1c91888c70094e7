"""What has to outlive the process of a card's health, as JSON and back.

Faults that only a reset ends, and the count of errors by which a reset is noticed: everything else is seen again by whoever looks
again.  Our own file, so decoding is lenient: what cannot be read is as if it had never been, and nothing counts that another boot
wrote, for a boot resets every card.
"""

import json
from collections.abc import Mapping
from typing import Any

from hami_dra.core.device_health import CardHealth, Effect, Ends, Fault, Pulse, Sighting
from hami_dra.core.ids import DeviceName

__all__ = ["from_json", "to_json"]


def to_json(cards: Mapping[DeviceName, CardHealth], *, boot: str) -> str:
    """The cards that have something to remember."""
    records = {name: _record(card) for name, card in sorted(cards.items())}
    return json.dumps({"boot": boot, "cards": {name: record for name, record in records.items() if record["faults"]}})


def from_json(text: str, *, boot: str) -> dict[DeviceName, CardHealth]:
    """What `to_json` wrote in the same boot; nothing where that cannot be read."""
    try:
        whole = json.loads(text)
        if whole["boot"] != boot:
            return {}
        return {DeviceName(str(name)): _card(record) for name, record in whole["cards"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _record(card: CardHealth) -> dict[str, Any]:
    return {
        "errors": None if card.pulse is None else card.pulse.errors,
        "faults": [
            {"key": fault.key, "value": fault.value, "effect": fault.effect, "message": fault.message}
            for fault in (sighting.fault for sighting in card.sightings)
            if fault.ends is Ends.RESET
        ],
    }


def _card(record: Mapping[str, Any]) -> CardHealth:
    errors = record["errors"]
    sightings = tuple(
        Sighting(
            Fault(
                key=str(fault["key"]),
                value=str(fault["value"]),
                effect=Effect(fault["effect"]),
                ends=Ends.RESET,
                message=str(fault["message"]),
            ),
            seen_s=0.0,
        )
        for fault in record["faults"]
    )
    return CardHealth(sightings=sightings, pulse=Pulse(errors=None if errors is None else int(errors)))
