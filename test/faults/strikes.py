"""How each fault is brought about, and how it is taken back."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from e2e.support import NodeFiles, plugin_processes
from faults.cluster import Api
from faults.plan import Fault

from hacklib.deployment import Site, wait_until
from hacklib.ui import HackError

__all__ = ["Striker"]

_COMPONENTS = {
    Fault.KUBELET: "node-1/kubelet",
    Fault.CONTAINERD: "node-1/containerd",
    Fault.API_GONE: "kube-apiserver",
    Fault.API_DEAF: "kube-apiserver",
}
_COMES_BACK_S = 4.0
"""Within so long kubelet starts a killed node plugin, unless it was killed a moment ago: then a new pod is faster."""


class Striker:
    """Breaks node-1 and heals it."""

    def __init__(self, site: Site, api: Api) -> None:
        self._site = site
        self._api = api
        self._filler = NodeFiles(site, node=1).state_dir / "filler"
        self._updates = 0

    def strike(self, fault: Fault) -> None:
        """Break it now."""
        cluster = self._site.cluster
        if fault is Fault.PLUGIN:
            for process in plugin_processes(self._site, node=1):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        elif fault is Fault.UPDATE:
            self._updates += 1
            self._api.update_plugin(number=self._updates)
        elif fault is Fault.DISK:
            _fill(self._filler)
        elif fault is Fault.API_DEAF:
            cluster.pause(_COMPONENTS[fault])
        else:
            cluster.kill(_COMPONENTS[fault])

    def heal(self, fault: Fault) -> None:
        """Take it back, and see that what was broken works."""
        cluster = self._site.cluster
        if fault is Fault.DISK:
            self._filler.unlink()
        elif fault is Fault.API_DEAF:
            cluster.resume(_COMPONENTS[fault])
        elif fault in _COMPONENTS:
            cluster.start(_COMPONENTS[fault])
        self._revive_plugin()

    def _revive_plugin(self) -> None:
        def lives() -> bool:
            return bool(plugin_processes(self._site, node=1))

        try:
            wait_until(lives, what="the node plugin", deadline_s=_COMES_BACK_S)
        except HackError:
            self._api.replace_plugin()
            wait_until(lives, what="the node plugin, from a new pod", deadline_s=60)


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
