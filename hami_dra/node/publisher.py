"""Makes the API server hold the node's slices, and keeps it so.

Publishes when the inventory changes, when somebody else touched the slices (kubelet deletes them all when it starts), and every
few minutes.  Each write is read back: fields behind a closed feature gate are dropped without a word, so the publisher then does
without them, says once what would change that, and tries again when the server's version changes or after a while.  What the
slices say is for `core.slices`, which writes are needed for `core.slice_diff`.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hami_dra._lib.backoff import Backoff
from hami_dra._lib.clock import SYSTEM_CLOCK, Clock
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject, OwnerReference, ResourceSlice, ResourceSliceSpec
from hami_dra.api.names import DRIVER
from hami_dra.core.errors import ApiUnavailable, Conflict, KubeError
from hami_dra.core.ids import DeviceName, NodeName
from hami_dra.core.inventory import Inventory
from hami_dra.core.settings import NodeSettings
from hami_dra.core.slice_diff import Changes, diff, dropped_fields
from hami_dra.core.slices import Taints, card_mode, desired_slices, pool_name
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import SliceStore

__all__ = ["Publisher", "PublisherInputs", "PublisherOptions"]

_log = logging.getLogger(__name__)

_QUIET_WRITES = 3
"""So many publications a minute are everyday life; more look like somebody who publishes something else."""
_QUIET_CAP_S = 30.0
_MINUTE_S = 60.0
_FIRST_LOOK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherOptions:
    """Where to publish and how often to look."""

    node: NodeName
    interval_s: float = 300.0
    """Between two looks without a cause."""
    retry_gates_s: float = 3600.0
    """After which fields that the server did not keep are tried again."""


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
class _Fallback:
    """Gates that the server has closed, as far as was found out."""

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
        self._server_version = server_version
        self._inputs = inputs
        self._options = options
        self._metrics = metrics
        self._group = group
        self._clock = clock
        self._wake = group.event()
        self._backoff = Backoff(base_s=0.5, cap_s=60.0)
        self._recent = _Recent()
        self._fallback: _Fallback | None = None
        self._warned: frozenset[str] = frozenset()
        self._published = False
        self._seen: Inventory | None = None

    @property
    def published(self) -> bool:
        """Whether the slices were once as they should be."""
        return self._published

    @property
    def dropped_gates(self) -> frozenset[str]:
        """The feature gates without which this node publishes."""
        return frozenset() if self._fallback is None else self._fallback.gates

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
                self._wake.wait(self._options.interval_s)
                self._group.wait(self._recent.delay_s(self._clock.monotonic()))

    def sync(self) -> None:
        """Publish now, if anything is to be written.

        Raises:
            KubeError: the API server refused, or could not be reached.
        """
        before = self._fallback
        closed = self.dropped_gates
        if before is not None and self._may_have_changed(before):
            closed = frozenset()
        while dropped := self._publish(closed) - closed:
            closed |= dropped
            self._do_without(closed)
        if before is not None and not closed:
            self._fallback = None
            _log.info("the API server keeps all fields now", extra={"gates": sorted(before.gates)})
        self._published = True
        self._report(closed)

    def _publish(self, closed: frozenset[str]) -> frozenset[str]:
        """Write what differs; gives the gates whose fields the server did not keep."""
        node = self._options.node
        inventory = self._seen = self._inputs.inventory()
        desired = desired_slices(
            inventory or Inventory(),
            node=node,
            settings=self._inputs.settings(),
            closed=closed,
            taints=self._inputs.taints(),
            held=self._inputs.held(),
        )
        observed = self._slices.list()
        pool = pool_name(node)
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

    def _report(self, closed: frozenset[str]) -> None:
        settings = self._inputs.settings()
        gpus = () if self._seen is None else self._seen.gpus
        chosen = [(gpu, each) for gpu in gpus if (each := settings.settings_for(gpu)) is not None]
        modes = Counter(card_mode(gpu, each, closed) for gpu, each in chosen)
        self._metrics.published(modes=modes, devices=len(chosen), dropped_gates=closed)

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

    def _do_without(self, gates: frozenset[str]) -> None:
        version = self._server_version()
        self._fallback = _Fallback(gates=gates, server_version=version, since_s=self._clock.monotonic())
        if self._warned != gates:
            self._warned = gates
            _log.warning(
                "the API server drops fields that this node would publish, which does without them now; to have them kept, open"
                " the feature gates %s on kube-apiserver, kube-controller-manager, kube-scheduler and kubelet (they are open by"
                " default from Kubernetes 1.36)",
                ", ".join(sorted(gates)),
                extra={"gates": sorted(gates), "serverVersion": version},
            )

    def _may_have_changed(self, fallback: _Fallback) -> bool:
        """Whether the fields that the server did not keep are worth another try."""
        waited_s = self._clock.monotonic() - fallback.since_s
        return waited_s >= self._options.retry_gates_s or self._server_version() != fallback.server_version

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
