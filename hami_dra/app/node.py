"""Composition root of `hami-dra node`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hami_dra.api.names import DRIVER
from hami_dra.app.http import serve_http
from hami_dra.app.node_config import ConfigOptions, follow_node_config, new_node_config
from hami_dra.app.process import new_registry
from hami_dra.app.watching import Watching
from hami_dra.core.cdi import NodePaths
from hami_dra.core.ids import NodeName
from hami_dra.core.inventory import Inventory
from hami_dra.core.record import held_devices
from hami_dra.core.slices import pool_name
from hami_dra.core.taints import device_taints
from hami_dra.host.boot import boot_id
from hami_dra.host.cdi_dir import CdiDirectory
from hami_dra.host.dmem import DmemCgroups
from hami_dra.host.guard_install import install_guard
from hami_dra.host.ledger import Ledger
from hami_dra.host.locks import ClaimLocks
from hami_dra.host.mps_dir import MpsDirectory
from hami_dra.host.processes import ShareProcesses
from hami_dra.host.share_dir import ShareDirectory
from hami_dra.kube.claims import Claims
from hami_dra.kube.events import EventRecorder
from hami_dra.kube.nodes import node_uid
from hami_dra.kube.reflector import Collection, Reflector
from hami_dra.kube.slices import SLICES_PATH, NodeSlices
from hami_dra.kube.version import ServerVersion, server_version
from hami_dra.node.consumers import Consumers
from hami_dra.node.cutting import OwnedInstances
from hami_dra.node.discovery import Discovery
from hami_dra.node.endpoint import SUPPORTED_VERSIONS, dra_handlers
from hami_dra.node.health import HealthServer
from hami_dra.node.health_stream import SUPPORTED_HEALTH_VERSIONS, HealthStream, health_handlers
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.ports import NodeFiles, Partitioner, Vendor
from hami_dra.node.publisher import Publisher, PublisherInputs, PublisherOptions
from hami_dra.node.recovery import Recovery
from hami_dra.node.registrar import Registrar
from hami_dra.node.service import ClaimListeners, ClaimService
from hami_dra.node.sockets import socket_paths
from hami_dra.node.stale import StaleClaims
from hami_dra.node.state import NodeState, PublishedPool
from hami_dra.node.status import StatusWriter
from hami_dra.node.vendors import Vendors
from hami_dra.vendors.amd import AmdDiscovery, Roots
from hami_dra.vendors.nvidia import NvidiaDiscovery, Root, TimeSlices

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from hami_dra._lib.threads import Group
    from hami_dra.core.settings import CardSettings
    from hami_dra.kube.transport import Transport
    from hami_dra.node.configuration import NodeConfiguration
    from hami_dra.node.device_monitor import DeviceMonitor

__all__ = ["NodeOptions", "node_vendors", "start_node"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What the command line says."""

    node_name: str
    pod_uid: str
    source: Literal["nvml", "sim"]
    driver_root: Path
    """Where this process finds the driver."""
    host_driver_root: Path
    """Where the container runtime finds it."""
    device_root: Path | None
    """Below whose `dev` NVIDIA's device files lie, as this process sees it; None: the driver root."""
    host_device_root: Path
    """What the container runtime calls that."""
    kubelet_root: Path
    cdi_dir: Path
    state_dir: Path
    mps_shm_dir: Path
    """What the daemons of MPS have for /dev/shm, as the host calls it."""
    cgroup_root: Path
    """Where the node's own cgroup v2 hierarchy is mounted."""
    guard: Path
    settings: CardSettings
    """Of a card of which the node configuration does not speak."""
    config: ConfigOptions
    health_port: int
    metrics_port: int
    attribution: bool
    """Whether processes of other pods can be seen, so that the driver's figures can be told apart by share."""
    stale_claim_grace_s: float
    """How long the API server must have said that nobody can use a prepared claim."""

    @property
    def driver(self) -> Root:
        """NVIDIA's driver, by both of its paths."""
        return Root(path=self.driver_root, host_path=str(self.host_driver_root))

    @property
    def mps_dir(self) -> Path:
        """Where node plugin and keeper of the MPS daemons meet."""
        return self.state_dir / "mps"

    @property
    def sysfs(self) -> Path:
        """A simulated driver brings its own: its cards are on no bus of this machine."""
        return self.driver_root / "sys" if self.source == "sim" else Path("/sys")

    @property
    def proc(self) -> Path:
        """The same for what the driver says in procfs."""
        return self.driver_root / "proc" if self.source == "sim" else Path("/proc")


def start_node(group: Group, options: NodeOptions, transport: Transport) -> None:
    """Recover what is prepared, then serve kubelet and publish.

    Raises:
        HamiDraError: this node cannot be served: state, CDI directory or sockets cannot be used.
    """
    node, registry = NodeName(options.node_name), new_registry("node")
    metrics, vendors = NodeMetrics(registry), Vendors(node_vendors(options))
    files = _node_files(group, options, partitions=vendors)
    discovery = Discovery(discover=OwnedInstances(vendors, files), group=group)
    claims, events = Claims(transport), EventRecorder(transport, component="hami-dra-node", host=node)
    status, consumers = StatusWriter(claims=claims, writer=claims, events=events), Consumers(claims)
    watching = Watching(
        group=group,
        node=node,
        state_dir=options.state_dir,
        kubelet_root=options.kubelet_root,
        files=files,
        vendors=vendors,
        discovery=discovery,
        consumers=consumers,
        events=events,
        registry=registry,
        metrics=metrics,
    )
    monitor = watching.monitor()
    state = NodeState(
        claims=claims,
        discovery=discovery,
        files=files,
        paths=_node_paths(options),
        pool=PublishedPool(
            name=pool_name(node),
            offers=lambda: publisher.offers(),  # noqa: PLW0108 - it comes below
            unusable=monitor.unusable,
            resets=monitor.resets,
        ),
        wait=group.wait,
        observe=metrics.observe_step,
    )
    recovery = Recovery(state=state, discovery=discovery, files=files)
    recovery.recover()
    configuration = new_node_config(
        options.config, base=options.settings, state_dir=options.state_dir, events=events, registry=registry
    )
    service = ClaimService(state=state, listener=ClaimListeners(status, consumers), metrics=metrics)
    events.start(group)
    status.start(group)
    inputs = _slice_inputs(transport, discovery=discovery, files=files, monitor=monitor, configuration=configuration)
    publisher = _publisher(group, options, transport=transport, inputs=inputs, metrics=metrics)
    _listen(publisher, recovery, monitor=monitor, configuration=configuration, discovery=discovery)
    health = watching.health_stream(monitor)
    watching.modes(state.modes, claims=claims, listener=status)
    watching.shares(inputs.settings, attribution=options.attribution)
    metrics.count_dropped(events=lambda: events.dropped, status=lambda: status.dropped)
    follow_node_config(group, options.config, node=node, transport=transport, configuration=configuration)
    group.spawn("discovery", discovery.run)
    group.spawn("publisher", publisher.run)
    _look_after(group, options, recovery, claims=claims, state=state, files=files, metrics=metrics)
    _serve(group, options, service=service, health=health, publisher=publisher, registry=registry)


def _listen(
    publisher: Publisher,
    recovery: Recovery,
    *,
    monitor: DeviceMonitor,
    configuration: NodeConfiguration,
    discovery: Discovery,
) -> None:
    """Who hears of what changes."""
    monitor.listen(publisher.wake)
    configuration.listen(publisher.wake)
    discovery.listen(publisher.inventory_read)
    discovery.listen(recovery.restore)


def _look_after(
    group: Group,
    options: NodeOptions,
    recovery: Recovery,
    *,
    claims: Claims,
    state: NodeState,
    files: NodeFiles,
    metrics: NodeMetrics,
) -> None:
    """What prepared claims lack is made again, and those that nobody can use are released."""
    stale = StaleClaims(
        claims=claims,
        state=state,
        files=files,
        pool=pool_name(NodeName(options.node_name)),
        released=metrics.claim_released,
        grace_s=options.stale_claim_grace_s,
    )
    group.spawn("files", lambda: recovery.run(group))
    group.spawn("stale claims", lambda: stale.run(group))


def node_vendors(options: NodeOptions) -> list[Vendor]:
    """Every vendor whose cards this program knows; one that is not in the machine is not missed."""
    devices = None
    if options.device_root is not None:
        devices = Root(path=options.device_root, host_path=str(options.host_device_root))
    simulated = options.source == "sim"
    roots = Roots(
        sysfs=options.sysfs,
        devices=options.driver_root if simulated else None,
        host_devices=str(options.host_driver_root),
    )
    return [
        NvidiaDiscovery(
            driver=options.driver, devices=devices, sysfs=options.sysfs, proc=options.proc, simulated=simulated
        ),
        AmdDiscovery(roots, regions=DmemCgroups(options.cgroup_root).regions, simulated=simulated),
    ]


def _knows_effect_none(transport: Transport) -> bool:
    """Whether taints may say that they have no effect; older API servers refuse the whole slice then."""
    return server_version(transport) >= ServerVersion(1, 35)


def _node_paths(options: NodeOptions) -> NodePaths:
    """Installs this build's guard; the state directory has the same path on the host."""
    guard_dir = options.state_dir / "guard"
    build = install_guard(options.guard, guard_dir=guard_dir)
    _log.info("guard installed", extra={"build": build})
    return NodePaths(
        claims_dir=str(options.state_dir / "claims"),
        guard_dir=str(guard_dir / build),
        mps_dir=str(options.mps_dir),
        mps_shm_dir=str(options.mps_shm_dir),
    )


def _node_files(group: Group, options: NodeOptions, *, partitions: Partitioner) -> NodeFiles:
    shares = ShareDirectory(options.state_dir / "claims")
    shares.check()
    cdi = CdiDirectory(options.cdi_dir)
    cdi.check()
    boot = boot_id()
    ledger = Ledger(options.state_dir / "ledger.db", boot=boot)
    locks = ClaimLocks(options.state_dir / "claims.lock", group=group)
    return NodeFiles(
        ledger=ledger,
        shares=shares,
        cdi=cdi,
        pods=DmemCgroups(options.cgroup_root),
        locks=locks,
        partitions=partitions,
        time_slices=TimeSlices(options.driver),
        mps=MpsDirectory(options.mps_dir),
        boot=boot,
        in_use=ShareProcesses(options.state_dir / "claims").claims if options.attribution else set,
    )


def _slice_inputs(
    transport: Transport,
    *,
    discovery: Discovery,
    files: NodeFiles,
    monitor: DeviceMonitor,
    configuration: NodeConfiguration,
) -> PublisherInputs:
    """What the slices say: lost cards stay in them, tainted."""

    def cards() -> Inventory | None:
        return discovery.including(monitor.absent())

    return PublisherInputs(
        inventory=lambda: cards() if configuration.settled else None,
        settings=lambda: configuration.settings(cards() or Inventory()),
        held=lambda: held_devices(files.ledger.entries(), boot=files.boot),
        taints=lambda: device_taints(monitor.health(), informational=_knows_effect_none(transport)),
    )


def _publisher(
    group: Group, options: NodeOptions, *, transport: Transport, inputs: PublisherInputs, metrics: NodeMetrics
) -> Publisher:
    node = NodeName(options.node_name)
    slices = NodeSlices(transport, driver=DRIVER, node=node)
    publisher = Publisher(
        slices=slices,
        node_uid=lambda: node_uid(transport, node),
        server_version=lambda: server_version(transport).text,
        inputs=inputs,
        options=PublisherOptions(node=node),
        metrics=metrics,
        group=group,
    )
    Reflector(transport, Collection(SLICES_PATH, slices.field_selector), publisher).start(group, name="slices")
    return publisher


def _serve(
    group: Group,
    options: NodeOptions,
    *,
    service: ClaimService,
    health: HealthStream,
    publisher: Publisher,
    registry: CollectorRegistry,
) -> None:
    paths = socket_paths(
        plugin_dir=options.kubelet_root / "plugins" / DRIVER,
        registry_dir=options.kubelet_root / "plugins_registry",
        pod_uid=options.pod_uid,
    )
    versions = (*SUPPORTED_VERSIONS, *SUPPORTED_HEALTH_VERSIONS)
    handlers = [*dra_handlers(service), *health_handlers(health)]
    registrar = Registrar(paths=paths, handlers=handlers, versions=versions, group=group)

    def ready() -> bool:
        return registrar.registered and publisher.published

    probes = HealthServer(address=f"[::]:{options.health_port}", paths=paths, ready=ready)
    registrar.start()
    group.spawn("sockets", registrar.run)
    port = probes.start()
    group.on_stop(probes.stop)
    _log.info("serving health probes", extra={"port": port})
    serve_http(group, port=options.metrics_port, registry=registry, ready=ready)
