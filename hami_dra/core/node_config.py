"""What a node configuration means for the cards of one node.

Entries that select the node are laid over each other in their order, card by card and field by field: the last one that says
something of a field wins, and what nobody says is as the command line has it.  Pure; where the configuration comes from, and when
it is looked at again, is for `node.configuration`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hami_dra.api.nodeconfig import DeviceSelector, Entry, NodeConfig
from hami_dra.core.inventory import Gpu, Inventory
from hami_dra.core.label_selector import selects
from hami_dra.core.settings import CardSettings, NodeSettings

__all__ = ["Remembered", "entries_for_node", "node_settings"]

_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What was in force last on this node."""

    text: str
    """Of the configuration."""
    labels: Mapping[str, str]
    """Of the node."""


def entries_for_node(config: NodeConfig, labels: Mapping[str, str]) -> tuple[Entry, ...]:
    """The entries that select a node with these labels, in their order."""
    return tuple(
        entry for entry in config.entries if entry.node_selector is None or selects(entry.node_selector, labels)
    )


def node_settings(
    config: NodeConfig, *, labels: Mapping[str, str], inventory: Inventory, base: CardSettings
) -> NodeSettings:
    """How the cards of a node are to be offered.

    Args:
        config: for all nodes.
        labels: of this node.
        inventory: its cards.
        base: what holds where no entry says otherwise.
    """
    entries = entries_for_node(config, labels)
    return NodeSettings(default=base, cards={gpu.name: _card_settings(entries, gpu, base) for gpu in inventory.gpus})


def _card_settings(entries: Iterable[Entry], gpu: Gpu, base: CardSettings) -> CardSettings | None:
    excluded = False
    card: dict[str, Any] = {}
    watchdog: dict[str, Any] = {}
    for entry in entries:
        if entry.devices is None or _selects_card(entry.devices, gpu):
            excluded = excluded if entry.exclude is None else entry.exclude
            card |= _said_of_card(entry)
            watchdog |= _said_of_watchdog(entry)
    return None if excluded else replace(base, **card, watchdog=replace(base.watchdog, **watchdog))


def _selects_card(selector: DeviceSelector, gpu: Gpu) -> bool:
    return all(
        (
            selector.names is None or gpu.name in selector.names,
            selector.uuids is None or gpu.uuid in selector.uuids,
            selector.indices is None or gpu.index in selector.indices,
            selector.product_names is None or any(_like(gpu.product_name, each) for each in selector.product_names),
        )
    )


def _like(text: str, pattern: str) -> bool:
    """Whether a text is like a pattern with `*` and `?`; other characters, brackets too, mean themselves."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _said_of_card(entry: Entry) -> dict[str, Any]:
    """The entry's settings of a card, by the names of `CardSettings`; what it does not say is not there."""
    fields: dict[str, Any] = {"mode": entry.mode, "slots": entry.slots, "fixed_shares": entry.fixed_shares}
    if entry.scaling is not None:
        fields |= {"memory_percent": entry.scaling.memory_percent, "cores_percent": entry.scaling.cores_percent}
    if entry.defaults is not None:
        memory = entry.defaults.memory
        fields["default_memory_bytes"] = None if memory is None else -(-memory // _MIB) * _MIB
        fields["default_cores_percent"] = entry.defaults.cores_percent
    return {name: value for name, value in fields.items() if value is not None}


def _said_of_watchdog(entry: Entry) -> dict[str, Any]:
    """The same for `WatchdogSettings`."""
    if entry.watchdog is None:
        return {}
    fields = {
        "policy": entry.watchdog.policy,
        "memory_tolerance_bytes": entry.watchdog.memory_tolerance,
        "cores_tolerance_percent": entry.watchdog.cores_tolerance_percent,
        "grace_s": entry.watchdog.grace_seconds,
    }
    return {name: value for name, value in fields.items() if value is not None}
