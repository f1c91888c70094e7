"""Makes the API server hold the node's slices, and keeps it so.

Publishes when the inventory changes, when somebody else touched the slices (kubelet deletes them all when it starts), and every
few minutes.  Each write is read back: fields behind a closed feature gate are dropped without a word, so the publisher then comes
down to whole cards, says once what would change that, and tries the richer layout again when the server's version changes or
after a while.  What the slices say is for `core.slices`, which writes are needed for `core.slice_diff`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject, OwnerReference, ResourceSlice, ResourceSliceSpec
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import ApiUnavailable, Conflict, KubeError
from hami_dra.core.ids import NodeName
from hami_dra.core.inventory import Inventory
from hami_dra.core.slice_diff import Changes, diff, dropped_fields
from hami_dra.core.slices import Layout, desired_slices, pool_name
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import SliceStore

__all__ = ["Publisher", "PublisherOptions"]

_log = logging.getLogger(__name__)

_QUIET_WRITES = 3
"""So many publications a minute are everyday life; more look like somebody who publishes something else."""
_QUIET_CAP_S = 30.0
_MINUTE_S = 60.0
_FIRST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherOptions:
    """What to publish and how often to look."""

    node: NodeName
    slots: int
    """How many claims can share one GPU."""
    layout: Layout = Layout.SHARES
    """The richest layout to try."""
    interval_s: float = 300.0
    """Between two looks without a cause."""
    retry_layout_s: float = 3600.0
    """After which a layout that the server did not keep is tried again."""


@dataclass(slots=True)
class _Fallback:
    """Why the layout is not the one that was asked for."""

    gates: frozenset[str]
    server_version: str
    since_s: float


@dataclass(slots=True)
class _Recent:
    """When slices were written in the last minute."""

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
        inventory: Callable[[], Inventory | None],
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
            inventory: the newest one, None while there is none: an empty slice then says that the driver runs, unless an
                earlier run has published more.
            options: see there.
            metrics: told of the outcome.
            group: whose stop ends `run`.
            clock: for intervals.
        """
        self._slices = slices
        self._node_uid = node_uid
        self._server_version = server_version
        self._inventory = inventory
        self._options = options
        self._metrics = metrics
        self._group = group
        self._clock = clock
        self._wake = group.event()
        self._backoff = Backoff(base_s=0.5, cap_s=60.0)
        self._recent = _Recent()
        self._fallback: _Fallback | None = None
        self._on_trial = False
        self._warned: frozenset[str] = frozenset()
        self._published = False
        self._seen: Inventory | None = None

    @property
    def published(self) -> bool:
        """Whether the slices were once as they should be."""
        return self._published

    @property
    def layout(self) -> Layout:
        """The layout in which devices are published."""
        return self._options.layout if self._fallback is None or self._on_trial else Layout.WHOLE

    @property
    def dropped_gates(self) -> frozenset[str]:
        """The feature gates that stand between this layout and the one that was asked for."""
        return frozenset() if self._fallback is None else self._fallback.gates

    def wake(self) -> None:
        """Look soon: something may have changed."""
        self._wake.set()

    def inventory_read(self) -> None:
        """The hardware was looked at: look soon if it is not what was last published."""
        if self._inventory() != self._seen:
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
        self._group.wait_until(lambda: self._inventory() is not None, timeout_s=_FIRST_LOOK_S)
        while not self._group.stopping:
            self._wake.clear()
            try:
                self.sync()
            except KubeError as error:
                self._pause(error)
            else:
                self._backoff.reset()
                self._wake.wait(self._options.interval_s)
                self._group.wait(self._recent.delay_s(self._clock.monotonic()))

    def sync(self) -> None:
        """Publish now, if anything is to be written.

        Raises:
            KubeError: the API server refused, or could not be reached.
        """
        self._on_trial = self._fallback is not None and self._may_have_changed(self._fallback)
        dropped = self._publish()
        if dropped and self.layout is not Layout.WHOLE:
            self._come_down(dropped)
            self._publish()
        elif self._on_trial:
            self._fallback, self._on_trial = None, False
            _log.info("the API server keeps all fields now", extra={"layout": self.layout})
        self._published = True
        inventory = self._inventory() or Inventory()
        self._metrics.published(layout=self.layout, devices=len(inventory.gpus), dropped_gates=self.dropped_gates)

    def _publish(self) -> frozenset[str]:
        """Write what differs; gives the gates whose fields the server did not keep."""
        options = self._options
        inventory = self._seen = self._inventory()
        desired = desired_slices(inventory or Inventory(), node=options.node, layout=self.layout, slots=options.slots)
        observed = self._slices.list()
        pool = pool_name(options.node)
        present = [item for item in observed if item["spec"]["pool"]["name"] == pool]
        if inventory is None and present:
            return frozenset()  # of an earlier run: not to be taken back because the hardware was not looked at yet
        changes = diff(desired, present)
        for item in observed:
            if item["spec"]["pool"]["name"] != pool:  # of an older release that called its pool otherwise
                self._slices.delete(item)
        if not changes:
            return frozenset()
        self._recent.times.append(self._clock.monotonic())
        return self._write(changes)

    def _write(self, changes: Changes) -> frozenset[str]:
        owner = self._node_uid() if changes.update or changes.create else ""
        for item in changes.delete:
            self._slices.delete(item)
        dropped: frozenset[str] = frozenset()
        for item in changes.update:
            stored = self._slices.update(self._owned(item, owner))
            dropped |= dropped_fields(item["spec"], stored["spec"])
        for spec in changes.create:
            stored = self._slices.create(self._owned(self._new(spec), owner))
            dropped |= dropped_fields(spec, stored["spec"])
        _log.info(
            "slices published",
            extra={
                "layout": self.layout,
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

    def _come_down(self, gates: frozenset[str]) -> None:
        version = self._server_version()
        self._fallback = _Fallback(gates=gates, server_version=version, since_s=self._clock.monotonic())
        self._on_trial = False
        if self._warned != gates:
            self._warned = gates
            _log.warning(
                "the API server drops fields that sharing GPUs needs: whole cards are published; to share them, open the"
                " feature gate %s on kube-apiserver, kube-controller-manager, kube-scheduler and kubelet (it is open by"
                " default from Kubernetes 1.36)",
                ", ".join(sorted(gates)),
                extra={"gates": sorted(gates), "serverVersion": version},
            )

    def _may_have_changed(self, fallback: _Fallback) -> bool:
        """Whether the layout that the server did not keep is worth another try."""
        waited_s = self._clock.monotonic() - fallback.since_s
        return waited_s >= self._options.retry_layout_s or self._server_version() != fallback.server_version

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
