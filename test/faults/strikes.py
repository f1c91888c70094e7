"""How each fault is brought about, and how it is taken back."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2e.support import NodeFiles, plugin_processes
from faults.clock import DAY_S, DECADE_S, HOUR_S, PluginClock
from faults.cluster import Api
from faults.plan import Fault

from hacklib.deployment import Site, wait_until
from hacklib.ui import HackError
from hami_dra.testing.eventually import eventually

__all__ = ["STATE_BYTES", "Striker", "mount_state"]

STATE_BYTES = 64 << 20
_API_SERVER = "kube-apiserver"
_COMES_BACK_S = 4.0
"""Within so long kubelet starts a killed node plugin, unless it was killed a moment ago: then a new pod is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How to bring something about, and how to take it back."""

    strike: Callable[[], None]
    heal: Callable[[], None] = lambda: None


class Striker:
    """Breaks node-1 and heals it."""

    def __init__(self, site: Site, api: Api) -> None:
        self._site = site
        self._api = api
        self._files = NodeFiles(site, node=1)
        self._clock = PluginClock(site)
        self._backup: dict[str, bytes] = {}
        self._ways = self._all_ways()

    def look_away(self) -> None:
        """A round begins: this is the ledger that `Fault.LEDGER_OLD` puts back."""
        self._backup = {path.name: path.read_bytes() for path in self._ledger()}

    def strike(self, fault: Fault) -> None:
        """Break it now."""
        self._ways[fault].strike()

    def heal(self, fault: Fault) -> None:
        """Take it back, and see that what was broken works."""
        self._ways[fault].heal()
        self._revive_plugin()

    def _all_ways(self) -> dict[Fault, _Way]:
        cluster = self._site.cluster
        return {
            Fault.PLUGIN: _Way(strike=self._kill_plugin),
            Fault.UPDATE: _Way(strike=self._api.update_plugin),
            Fault.KUBELET: self._death_of("node-1/kubelet"),
            Fault.CONTAINERD: self._death_of("node-1/containerd"),
            Fault.REBOOT: _Way(strike=partial(cluster.restart, "node-1")),
            Fault.API_GONE: self._death_of(_API_SERVER),
            Fault.API_DEAF: _Way(strike=partial(cluster.pause, _API_SERVER), heal=partial(cluster.resume, _API_SERVER)),
            Fault.DISK: _Way(strike=self._fill_disk, heal=self._free_disk),
            Fault.STATE_READ_ONLY: _Way(strike=self._close_state, heal=self._open_state),
            Fault.CDI_CLOSED: _Way(strike=partial(self._permit_cdi, 0o555), heal=partial(self._permit_cdi, 0o755)),
            Fault.CDI_WIPED: _Way(strike=self._wipe_cdi),
            Fault.LEDGER_LOST: _Way(strike=self._lose_ledger),
            Fault.LEDGER_OLD: _Way(strike=self._put_ledger_back),
            Fault.CLOCK_OFF: self._clock_off(by=HOUR_S, healed=-HOUR_S),
            Fault.CLOCK_BEHIND: _Way(strike=self._start_behind, heal=partial(self._clock.jump, 0)),
            Fault.CLOCK_AHEAD: self._clock_off(by=DECADE_S, healed=DAY_S),
        }

    def _death_of(self, component: str) -> _Way:
        cluster = self._site.cluster
        return _Way(strike=partial(cluster.kill, component), heal=partial(cluster.start, component))

    def _clock_off(self, *, by: int, healed: int) -> _Way:
        """After the heal it is still not right: an hour behind (certificates are older) or a day ahead does no harm."""

        def jump(offset_s: int) -> None:
            self._clock.jump(offset_s)
            self._clock.wait_heard()

        return _Way(strike=partial(jump, by), heal=partial(jump, healed))

    def _start_behind(self) -> None:
        self._kill_plugin()
        self._clock.jump(-DAY_S)
        self._revive_plugin()
        self._clock.wait_heard()

    def _ledger(self) -> list[Path]:
        """The ledger's files: the data base and its log, without the index that readers share."""
        return [path for path in self._files.state_dir.glob("ledger.db*") if path.suffix != ".db-shm"]

    def _kill_plugin(self) -> None:
        for process in plugin_processes(self._site, node=1):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _fill_disk(self) -> None:
        """Write until there is no room left."""
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def _free_disk(self) -> None:
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        return self._files.state_dir / "filler"

    def _close_state(self) -> None:
        """As a kernel does that saw a bad disk: with no writer left, hence without the node plugin."""

        def closed() -> bool:
            self._kill_plugin()
            return self._remount("ro")

        eventually(closed, every_s=0.1, within_s=30.0)

    def _open_state(self) -> None:
        eventually(lambda: self._remount("rw"))

    def _remount(self, option: str) -> bool:
        words = ("mount", "-o", f"remount,{option}", str(_state(self._site)))
        return self._site.cluster.exec(*words, check=False).returncode == 0

    def _permit_cdi(self, mode: int) -> None:
        """The plugin has no capability to write a directory in spite of its mode."""
        self._files.cdi_dir.chmod(mode)

    def _wipe_cdi(self) -> None:
        for path in self._files.cdi_dir.iterdir():
            path.unlink(missing_ok=True)

    def _lose_ledger(self) -> None:
        self._kill_plugin()
        for path in self._ledger():
            path.unlink()

    def _put_ledger_back(self) -> None:
        self._lose_ledger()
        for name, data in self._backup.items():
            (self._files.state_dir / name).write_bytes(data)

    def _revive_plugin(self) -> None:
        def lives() -> bool:
            return bool(plugin_processes(self._site, node=1))

        try:
            wait_until(lives, what="the node plugin", deadline_s=_COMES_BACK_S)
        except HackError:
            self._api.replace_plugin()
            wait_until(lives, what="the node plugin, from a new pod", deadline_s=60)


def mount_state(site: Site) -> None:
    """Give node-1 a file system of its own for the state, small enough to be filled, that survives a reboot of the node."""
    site.cluster.exec("mount", "-t", "tmpfs", "-o", f"size={STATE_BYTES}", "tmpfs", str(_state(site)))
    site.cluster.restart("node-1")


def _state(site: Site) -> Path:
    """The state of node-1, seen from the cluster."""
    return site.cluster.spec.node(1).folder / "var-lib/hami-dra"
