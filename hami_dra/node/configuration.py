"""The node configuration that is in force, and what it means for the cards.

Follows one ConfigMap and the labels of one Node, as the handler of two reflectors.  A configuration is taken or refused as a
whole: what is wrong with one is said in an Event on the ConfigMap, and the one before stays in force.  It does so over a restart
too, because the last good one lies in the state directory, with the labels that it was judged by.  No ConfigMap means no entries.
What entries mean for a card is for `core.node_config`; whoever acts on it listens.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from hami_dra._lib.threads import Event, Group
from hami_dra.api.k8s import JsonObject, ObjectReference
from hami_dra.api.names import CONFIG_API_VERSION, NODE_CONFIG_KIND
from hami_dra.api.nodeconfig import NodeConfig, decode_node_config
from hami_dra.api.strict import ConfigError
from hami_dra.core.errors import InvalidConfig, NodeStateError
from hami_dra.core.inventory import Inventory
from hami_dra.core.node_config import Remembered, entries_for_node, node_settings
from hami_dra.core.settings import CardSettings, NodeSettings
from hami_dra.node.config_metrics import ConfigMetrics, Source
from hami_dra.node.ports import ConfigMemory, EventSink

__all__ = ["ConfigMapHandler", "NodeConfiguration", "NodeHandler"]

_log = logging.getLogger(__name__)

_NO_ENTRIES = NodeConfig.model_validate({"apiVersion": CONFIG_API_VERSION, "kind": NODE_CONFIG_KIND})


@dataclass(frozen=True, slots=True, kw_only=True)
class _InForce:
    config: NodeConfig = _NO_ENTRIES
    text: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    source: Source = Source.DEFAULTS


class NodeConfiguration:
    """See the module."""

    def __init__(
        self,
        *,
        key: str,
        base: CardSettings,
        memory: ConfigMemory,
        events: EventSink,
        metrics: ConfigMetrics,
        patience_s: float = 10.0,
    ) -> None:
        """What was in force last is in force at once.

        Args:
            key: of the ConfigMap's data, under which the configuration lies.
            base: what holds for a card of which no entry speaks.
            memory: outlives this process.
            events: takes what is wrong with a configuration.
            metrics: told of every change.
            patience_s: how long a start waits for ConfigMap and Node before what is known has to do.
        """
        self._key = key
        self._base = base
        self._memory = memory
        self._events = events
        self._metrics = metrics
        self._patience_s = patience_s
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._settled = False
        self._seen = False
        self._state = self._remembered()
        metrics.in_force(self._state.source)

    @property
    def settled(self) -> bool:
        """Whether this is what the cluster says now; before, what follows from it should not be told to others."""
        return self._settled

    def settings(self, inventory: Inventory) -> NodeSettings:
        """How these cards are to be offered."""
        state = self._state
        return node_settings(state.config, labels=state.labels, inventory=inventory, base=self._base)

    def listen(self, listener: Callable[[], None]) -> None:
        """Add somebody to call after each change; before `run`."""
        self._listeners.append(listener)

    def run(self, group: Group, *, config_maps: Event, nodes: Event) -> None:
        """Wait for the first list of both, and find out whether there is a ConfigMap at all."""
        group.wait_until(lambda: config_maps.is_set() and nodes.is_set(), timeout_s=self._patience_s)
        if not config_maps.is_set() and not group.stopping:
            _log.warning(
                "the node configuration cannot be read yet, what was in force last has to do",
                extra={"source": self._state.source},
            )
        if config_maps.is_set():
            self._note_absence()
        self._settled = True
        self._tell()
        if config_maps.wait():
            self._note_absence()

    def take(self, config_map: JsonObject) -> None:
        """There is a configuration, maybe a wrong one."""
        self._seen = True
        try:
            text = self._text_of(config_map)
            config = decode_node_config(text)
        except ConfigError as error:
            self._refuse(config_map, error)
            return
        self._metrics.loaded(accepted=True)
        with self._lock:
            self._state = replace(self._state, config=config, text=text, source=Source.CONFIG_MAP)
            self._save()
        self._tell()

    def lose(self) -> None:
        """There is no configuration any more."""
        self._metrics.gone()
        with self._lock:
            self._state = _InForce(labels=self._state.labels)
            self._save()
        self._tell()

    def label(self, labels: Mapping[str, str]) -> None:
        """The node has these labels."""
        with self._lock:
            if labels == self._state.labels:
                return
            self._state = replace(self._state, labels=labels)
            self._save()
        self._tell()

    def _remembered(self) -> _InForce:
        remembered = self._memory.load()
        if remembered is None:
            return _InForce()
        try:
            config = decode_node_config(remembered.text)
        except ConfigError as error:
            _log.warning("the node configuration that was in force last is of another release: %s", error)
            return _InForce(labels=remembered.labels)
        return _InForce(config=config, text=remembered.text, labels=remembered.labels, source=Source.LAST_GOOD)

    def _text_of(self, config_map: JsonObject) -> str:
        data = config_map["data"]
        if self._key not in data:
            found = ", ".join(sorted(data)) or "no key at all"
            raise ConfigError(f"data: found {found}, expected the key {self._key}")
        return str(data[self._key])

    def _refuse(self, config_map: JsonObject, error: ConfigError) -> None:
        self._metrics.loaded(accepted=False)
        message = f"the node configuration is refused as a whole, and what was in force before stays: {error}"
        _log.warning(message, extra={"source": self._state.source})
        regarding = cast("ObjectReference", {"apiVersion": "v1", "kind": "ConfigMap", **config_map["metadata"]})
        self._events.emit(regarding, event_type="Warning", reason=InvalidConfig.reason, message=message)

    def _note_absence(self) -> None:
        if not self._seen and self._state.source is Source.LAST_GOOD:
            self.lose()

    def _save(self) -> None:
        state = self._state
        try:
            if state.text is None:
                self._memory.forget()
            else:
                self._memory.save(Remembered(text=state.text, labels=state.labels))
        except NodeStateError as error:
            _log.warning("a restart will not know the node configuration that is in force: %s", error)

    def _tell(self) -> None:
        state = self._state
        self._metrics.in_force(state.source)
        if self._settled:
            names = [entry.name or "(no name)" for entry in entries_for_node(state.config, state.labels)]
            _log.info("node configuration in force", extra={"source": state.source, "entries": names})
        for listener in self._listeners:
            listener()


class ConfigMapHandler:
    """Of a reflector over the one ConfigMap."""

    def __init__(self, configuration: NodeConfiguration) -> None:
        self._configuration = configuration

    def added(self, obj: JsonObject) -> None:
        """It is there."""
        self._configuration.take(obj)

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """It changed; its labels and annotations do not matter."""
        if obj["data"] != old["data"]:
            self._configuration.take(obj)

    def deleted(self, old: JsonObject) -> None:  # noqa: ARG002 - the protocol of a handler
        """It is gone."""
        self._configuration.lose()


class NodeHandler:
    """Of a reflector over the one Node."""

    def __init__(self, configuration: NodeConfiguration) -> None:
        self._configuration = configuration

    def added(self, obj: JsonObject) -> None:
        """It is there."""
        self._configuration.label(obj["metadata"]["labels"])

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:  # noqa: ARG002 - the protocol of a handler
        """It changed."""
        self._configuration.label(obj["metadata"]["labels"])

    def deleted(self, old: JsonObject) -> None:
        """It is gone: as long as this process runs, what it was is the best guess."""
