"""`hami-dra doctor --node`: looks at the node from within its node plugin's container, beside the node plugin."""

from __future__ import annotations

import logging
import os
import platform
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from hami_dra.api.names import DRIVER
from hami_dra.app.node import node_vendors
from hami_dra.core.doctor import Finding, judge_node
from hami_dra.core.doctor.isolation import PROGRAMS, IsolationView
from hami_dra.core.doctor.node import CdiView, GuardView, KernelView, NodeView, SocketView
from hami_dra.core.doctor.view import Unknown
from hami_dra.core.errors import DriverError, NodeStateError
from hami_dra.host import inspect
from hami_dra.host.boot import boot_id
from hami_dra.host.cdi_dir import CdiDirectory
from hami_dra.host.dmem import DmemCgroups
from hami_dra.host.guard_install import guard_build
from hami_dra.host.mps_dir import MpsDirectory
from hami_dra.node.sockets import socket_paths
from hami_dra.node.vendors import Vendors

if TYPE_CHECKING:
    from pathlib import Path

    from hami_dra.app.node import NodeOptions
    from hami_dra.core.inventory import Inventory
    from hami_dra.core.record import Entry

__all__ = ["examine_node"]

_READY_S = 5.0
_VENDORS = "hami_dra.vendors"


def examine_node(options: NodeOptions, *, pid: int | None = None) -> list[Finding]:
    """Look at this node, as the node plugin with these options sees it.

    Args:
        options: of the node plugin.
        pid: of the node plugin, where it is known.

    Raises:
        NodeStateError: not even the kernel can be asked.
    """
    inventory, left_out = _inventory(options)
    ledger = options.state_dir / "ledger.db"
    before = _ledger(ledger)
    cdi = _cdi(options.cdi_dir)
    shares = inspect.claim_directories(options.state_dir / "claims")
    return judge_node(
        NodeView(
            driver_root=str(options.host_driver_root),
            inventory=inventory,
            left_out=left_out,
            sockets=_sockets(options),
            cdi=cdi,
            ledger=before,
            ledger_after=_ledger(ledger),
            shares=shares,
            boot=boot_id(),
            guard=_guard(options),
            isolation=_isolation(options),
            kernel=KernelView(
                release=platform.release(),
                regions=DmemCgroups(options.cgroup_root).regions(),
                open_files=inspect.open_files(os.getpid() if pid is None else pid),
                free=inspect.free_room([options.state_dir, options.cdi_dir]),
                sees_processes=inspect.sees_processes(),
                attribution=options.attribution,
            ),
        )
    )


def _ledger(path: Path) -> list[Entry] | Unknown:
    try:
        return inspect.read_ledger(path)
    except NodeStateError as error:
        return Unknown(str(error))


class _Warnings(logging.Handler):
    """What a look at the hardware warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is said of cards."""
        if record.name.startswith(_VENDORS):
            self.said.append(record.getMessage())


def _inventory(options: NodeOptions) -> tuple[Inventory | Unknown, list[str]]:
    """The cards, and those that are left out, of which discovery only says so."""
    warnings, log = _Warnings(), logging.getLogger("hami_dra")
    log.addHandler(warnings)
    propagated, log.propagate = log.propagate, False
    try:
        return Vendors(node_vendors(options))(), warnings.said
    except DriverError as error:
        return Unknown(str(error)), warnings.said
    finally:
        log.removeHandler(warnings)
        log.propagate = propagated


def _sockets(options: NodeOptions) -> SocketView:
    paths = socket_paths(
        plugin_dir=options.kubelet_root / "plugins" / DRIVER,
        registry_dir=options.kubelet_root / "plugins_registry",
        pod_uid=options.pod_uid,
    )
    return SocketView(
        listening={str(path): inspect.answers(path) for path in (paths.plugin, paths.registration)},
        ready=_ready(options.metrics_port),
    )


def _ready(port: int) -> bool | Unknown:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=_READY_S) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's "OK"
    except urllib.error.HTTPError:
        return False
    except OSError as error:
        return Unknown(str(error))


def _cdi(directory: Path) -> CdiView:
    obstacle, uids = (
        inspect.obstacle_to_write(directory),
        CdiDirectory(directory).uids() if directory.is_dir() else set(),
    )
    return CdiView(path=str(directory), obstacle=obstacle, changed_s=inspect.changed_s(directory), uids=uids)


def _isolation(options: NodeOptions) -> IsolationView:
    daemons = MpsDirectory(options.mps_dir)
    return IsolationView(
        programs={name for name in PROGRAMS.values() if options.driver.has_program(name)},
        kept=daemons.kept(),
        daemons={device: daemons.answer(device) for device in daemons.wanted()},
    )


def _guard(options: NodeOptions) -> GuardView:
    directory = options.state_dir / "guard"
    build: str | Unknown
    try:
        build = guard_build(options.guard)
    except NodeStateError as error:
        build = Unknown(str(error))
    return GuardView(
        path=str(directory),
        build=build,
        builds=inspect.guard_builds(directory),
        executable=inspect.is_executable(directory),
    )
