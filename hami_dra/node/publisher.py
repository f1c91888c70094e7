"""Makes the API server hold the node's slices, and keeps it so.

Publishes when the inventory changes, when somebody else touched the slices (kubelet deletes them all when it starts), and every
few minutes.  Fields behind a closed feature gate are dropped without a word: `node.gates` finds out which are, and each write is
read back all the same.  What the slices say is for `core.slices`, which writes are needed for `core.slice_diff`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject, OwnerReference, ResourceSlice, ResourceSliceSpec
from hami_dra.api.names import DRIVER
from hami_dra.core.devices import Offers
from hami_dra.core.errors import ApiUnavailable, Conflict, KubeError
from hami_dra.core.gates import dropped_gates
from hami_dra.core.ids import DeviceName, NodeName
from hami_dra.core.inventory import Inventory
from hami_dra.core.layout import Layout, Server, missing_gates
from hami_dra.core.settings import NodeSettings
from hami_dra.core.slice_diff import Changes, diff
from hami_dra.core.slices import Desired, desired_slices, pool_name
from hami_dra.core.taints import Taints
from hami_dra.node.gates import Gates
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import SliceStore

__all__ = ["Publisher", "PublisherInputs", "PublisherOptions"]

_log = logging.getLogger(__name__)

_QUIET_WRITES = 3
"""So often a minute may be put back what somebody else changed; more look like somebody who publishes something else."""
_QUIET_CAP_S = 30.0
_MINUTE_S = 60.0
_FIRST_LOOK_S = 1.0
_WAITING_S = 1.0
"""Between two looks whether a card is free that is to be cut otherwise."""
_FIRST_PUBLICATION_S = 5.0
"""How long a claim waits for the first publication: until then it is not known how large a fixed share is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherOptions:
    """Where to publish and how often to look."""

    node: NodeName
    interval_s: float = 300.0
    """Between two looks without a cause."""
    retry_gates_s: float = 3600.0
    """After which the server is asked again what it keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherInputs:
    """What the slices say comes from here; each is asked anew for every look."""

    inventory: Callable[[], Inventory | None]
    """The hardware; None before the first look at it."""
    settings: Callable[[], NodeSettings]
    held: Callable[[], frozenset[DeviceName]]
    """Devices of prepared claims, which are never taken back."""
    taints: Callable[[], Taints] = dict
    """What is wrong with devices."""


@dataclass(slots=True)
class _Recent:
    """When in the last minute slices were written anew of which nothing was to change."""

    times: list[float] = field(default_factory=list)

    def delay_s(self, now: float) -> float:
        """How long to keep quiet before the next publication."""
        self.times = [moment for moment in self.times if now - moment < _MINUTE_S]
        extra = len(self.times) - _QUIET_WRITES
        return min(_QUIET_CAP_S, 2.0**extra) if extra >= 0 else 0.0


class Publisher:
    """Publishes one node's pool.  Also the handler of a reflector over the node's slices."""

    def __init__(
        self,
        *,
        slices: SliceStore,
        node_uid: Callable[[], str],
        server_version: Callable[[], str],
        inputs: PublisherInputs,
        options: PublisherOptions,
        metrics: NodeMetrics,
        group: Group,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Nothing is published before `run` or `sync`.

        Args:
            slices: of this driver on this node.
            node_uid: asks for the UID of the Node, which owns the slices.
            server_version: asks the API server for its version.
            inputs: what to publish; while there is no inventory, an empty slice says that the driver runs, unless an earlier
                run has published more.
            options: see there.
            metrics: told of the outcome.
            group: whose stop ends `run`.
            clock: for intervals.
        """
        self._slices = slices
        self._node_uid = node_uid
        self._inputs = inputs
        self._options = options
        self._metrics = metrics
        self._group = group
        self._clock = clock
        self._wake = group.event()
        self._backoff = Backoff(base_s=0.5, cap_s=60.0)
        self._recent = _Recent()
        self._gates = Gates(
            slices=slices,
            server_version=server_version,
            node=options.node,
            retry_s=options.retry_gates_s,
            clock=clock,
        )
        self._warned: frozenset[str] = frozenset()
        self._waiting: Mapping[DeviceName, Layout | None] = {}
        self._layouts: Mapping[DeviceName, Layout] = {}
        self._published = group.event()
        self._seen: Inventory | None = None
        self._held: frozenset[DeviceName] = frozenset()
        self._observed: list[ResourceSlice] = []
        self._written: Sequence[ResourceSliceSpec] | None = None

    @property
    def published(self) -> bool:
        """Whether the slices were once as they should be."""
        return self._published.is_set()

    def offers(self) -> Offers:
        """How the cards are offered now; right after a start, once that is known."""
        self._published.wait(_FIRST_PUBLICATION_S)
        return Offers(settings=self._inputs.settings(), layouts=self._layouts)

    def wake(self) -> None:
        """Look soon: something may have changed."""
        self._wake.set()

    def inventory_read(self) -> None:
        """The hardware was looked at: look soon if it is not what was last published."""
        if self._inputs.inventory() != self._seen:
            self.wake()

    def added(self, obj: JsonObject) -> None:  # noqa: ARG002 - the protocol of a handler
        """A slice came: ours, or one that should not be there."""
        self.wake()

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """A slice changed."""
        if obj.get("spec") != old.get("spec"):
            self.wake()

    def deleted(self, old: JsonObject) -> None:  # noqa: ARG002 - as above
        """A slice is gone."""
        self.wake()

    def run(self) -> None:
        """Publish again and again until the group stops; the first look at the hardware gets a moment's start."""
        self._group.wait_until(lambda: self._inputs.inventory() is not None, timeout_s=_FIRST_LOOK_S)
        while not self._group.stopping:
            self._wake.clear()
            try:
                self.sync()
            except KubeError as error:
                self._pause(error)
            else:
                self._backoff.reset()
                self._wait_for_cause()
                self._group.wait(self._recent.delay_s(self._clock.monotonic()))

    def _wait_for_cause(self) -> None:
        """Sleep until somebody calls, a while has passed, or a card that waits may have become free."""
        deadline = self._clock.monotonic() + self._options.interval_s
        while self._waiting and not self._group.stopping and self._clock.monotonic() < deadline:
            if self._wake.wait(_WAITING_S) or self._inputs.held() != self._held:
                return
        self._wake.wait(max(0.0, deadline - self._clock.monotonic()))

    def sync(self) -> None:
        """Publish now, if anything is to be written.

        Raises:
            KubeError: the API server refused, or could not be reached.
        """
        server = self._gates.look()
        while True:
            desired = self._desired(server)
            dropped = self._publish(desired) - server.closed
            if not dropped:
                break
            server = self._gates.lost(dropped)
        self._layouts = desired.layouts
        self._published.set()
        self._report(desired, server)

    def _desired(self, server: Server) -> Desired:
        self._observed = self._slices.list()
        self._seen, self._held = self._inputs.inventory(), self._inputs.held()
        return desired_slices(
            self._seen or Inventory(),
            node=self._options.node,
            settings=self._inputs.settings(),
            server=server,
            taints=self._inputs.taints(),
            held=self._held,
            observed=[item["spec"] for item in self._observed],
        )

    def _publish(self, desired: Desired) -> frozenset[str]:
        """Write what differs; gives the gates whose fields the server did not keep."""
        pool = pool_name(self._options.node)
        present = [item for item in self._observed if item["spec"]["pool"]["name"] == pool]
        if self._seen is None and present:
            return frozenset()  # of an earlier run: not to be taken back because the hardware was not looked at yet
        changes = diff(desired.slices, present)
        for item in self._observed:
            if item["spec"]["pool"]["name"] != pool:  # of an older release that called its pool otherwise
                self._slices.delete(item)
        if not changes:
            return frozenset()
        if desired.slices == self._written:
            self._recent.times.append(self._clock.monotonic())
        self._written = desired.slices
        return self._write(changes)

    def _report(self, desired: Desired, server: Server) -> None:
        modes = Counter(layout.mode for layout in desired.layouts.values())
        self._metrics.published(
            modes=modes, devices=desired.devices, waiting=len(desired.waiting), dropped_gates=server.closed
        )
        settings = self._inputs.settings()
        gpus = () if self._seen is None else self._seen.gpus
        wishes = [(gpu, chosen) for gpu in gpus if (chosen := settings.settings_for(gpu)) is not None]
        missing = frozenset().union(*(missing_gates(gpu, chosen, server) for gpu, chosen in wishes))
        if missing - self._warned:
            _log.warning(
                "the API server drops fields that this node would publish, which does without them; to have them kept, open the"
                " feature gates %s on kube-apiserver, kube-controller-manager, kube-scheduler and kubelet (they are open by"
                " default from Kubernetes 1.36; partitions need 1.35 or later)",
                ", ".join(sorted(missing)),
                extra={
                    "gates": sorted(missing),
                    "cards": {name: str(each.mode) for name, each in desired.layouts.items()},
                },
            )
        self._warned = missing
        for name, layout in desired.waiting.items():
            if name not in self._waiting:
                _log.warning(
                    "GPU %s keeps its layout until the claims on it have ended; %s then",
                    name,
                    "it is not offered any more" if layout is None else f"its mode is {layout.mode}",
                )
        self._waiting = desired.waiting

    def _write(self, changes: Changes) -> frozenset[str]:
        owner = self._node_uid() if changes.update or changes.create else ""
        for item in changes.delete:
            self._slices.delete(item)
        dropped: frozenset[str] = frozenset()
        for item in changes.update:
            stored = self._slices.update(self._owned(item, owner))
            dropped |= dropped_gates(item["spec"], stored["spec"])
        for spec in changes.create:
            stored = self._slices.create(self._owned(self._new(spec), owner))
            dropped |= dropped_gates(spec, stored["spec"])
        _log.info(
            "slices published",
            extra={
                "slices_deleted": len(changes.delete),
                "slices_updated": len(changes.update),
                "slices_created": len(changes.create),
            },
        )
        return dropped

    def _new(self, spec: ResourceSliceSpec) -> ResourceSlice:
        return {"metadata": {"generateName": f"{self._options.node}-{DRIVER}-"}, "spec": spec}

    def _owned(self, item: ResourceSlice, uid: str) -> ResourceSlice:
        """With the Node as owner: a node that came back under its old name has another UID."""
        owner = OwnerReference(apiVersion="v1", kind="Node", name=self._options.node, uid=uid, controller=True)
        return item | {"metadata": item["metadata"] | {"ownerReferences": [owner]}}

    def _pause(self, error: KubeError) -> None:
        self._metrics.publish_failed(error.reason)
        asked_s = error.retry_after_s if isinstance(error, ApiUnavailable) else None
        delay_s = self._backoff.next_s(at_least_s=asked_s or 0.0)
        if not isinstance(error, Conflict):  # somebody was faster; look again
            _log.warning(
                "slices could not be published, it is tried again: %s",
                error,
                extra={"retryInSeconds": round(delay_s, 2)},
            )
        self._group.wait(delay_s)
