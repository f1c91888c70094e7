"""How the cards of a node are to be offered: what an administrator decides, as values.

Where the settings come from (command line, node configuration) is for `app`; what is made of them for `core.slices` and
`core.plan`.  Invariant: a card has settings or is left out, and nothing else of the node depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hami_dra.api.nodeconfig import CardMode, WatchdogPolicy
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Gpu

__all__ = ["CardMode", "CardSettings", "NodeSettings", "WatchdogPolicy", "WatchdogSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSettings:
    """What is done about the shares of one card that the driver sees above their limits."""

    policy: WatchdogPolicy = WatchdogPolicy.REPORT
    memory_tolerance_bytes: int = 64 << 20
    """How far above its memory a share may be before it counts as above."""
    cores_tolerance_percent: int = 20
    """How far above its cores, in percent of the card, averaged over the grace."""
    grace_s: int = 10
    """How long a share is above before anything is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSettings:
    """How one card is offered."""

    mode: CardMode = CardMode.SHARES
    """The wish; a server that does not keep the fields for it gets the next simpler one."""
    slots: int = 10
    """How many claims can share one device."""
    fixed_shares: int = 4
    """Into how many parts a card is cut where shares are fixed."""
    memory_percent: int = 100
    """Memory on offer, of what the device has: above 100 more is promised than there is."""
    cores_percent: int = 100
    """Cores on offer, of what the device has."""
    default_memory_bytes: int | None = None
    """What a request that names no memory gets; None: all of the device."""
    default_cores_percent: int = 0
    """What a request that names no cores gets."""
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """How the cards of one node are offered."""

    default: CardSettings = field(default_factory=CardSettings)
    cards: Mapping[DeviceName, CardSettings | None] = field(default_factory=dict)
    """Cards with settings of their own; None leaves a card out."""

    def settings_for(self, gpu: Gpu) -> CardSettings | None:
        """The card's settings, or None if it is left out."""
        return self.cards.get(gpu.name, self.default)
