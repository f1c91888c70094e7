"""One look at everything that says what is prepared on node-1."""

import json
import sys
from collections.abc import Collection, Mapping

from e2e.support import NodeFiles, Prepared
from faults.cluster import Api, Processes
from faults.invariants import Snapshot

from hacklib.deployment import Site
from hami_dra.api.k8s import JsonObject

__all__ = ["Eyes"]

_READ_LEDGER = """
import json, sqlite3, sys
ledger = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
rows = ledger.execute("SELECT uid, phase, record FROM claims")
print(json.dumps([[uid, phase, json.loads(record)] for uid, phase, record in rows]))
"""


class Eyes:
    """Sees the API server's objects, the files of the node and the processes of its pods."""

    def __init__(self, site: Site, *, api: Api, processes: Processes, slots: int) -> None:
        self._site = site
        self._api = api
        self._processes = processes
        self._slots = slots
        self._files = NodeFiles(site, node=1)
        self._card_bytes = site.cards(1)[0].memory_bytes

    def look(self, wanted: Collection[str], pods: Mapping[str, JsonObject]) -> Snapshot:
        """What is there now.

        Args:
            wanted: the pods that should run.
            pods: those that are there.
        """
        ledger = self._ledger()
        prepared = Prepared(
            shares=self._files.share_directories(),
            specs=self._files.cdi_claims(),
            ledger={uid: phase for uid, phase, _record in ledger},
        )
        return Snapshot(
            wanted=wanted,
            pods=pods,
            claims=self._api.claims(),
            prepared=prepared,
            cdi_devices=[device["name"] for uid in sorted(prepared.specs) for device in self._devices(uid)],
            in_use=self._processes.claims_in_use(),
            records=[record for _uid, _phase, record in ledger],
            card_bytes=self._card_bytes,
            slots=self._slots,
        )

    def _devices(self, uid: str) -> list[dict[str, str]]:
        try:
            devices: list[dict[str, str]] = self._files.cdi_spec(uid)["devices"]
        except FileNotFoundError:  # unprepared since
            return []
        return devices

    def _ledger(self) -> list[tuple[str, str, JsonObject]]:
        """UID, phase and record of each claim, read within the node; none while there is no ledger."""
        words = (sys.executable, "-I", "-S", "-c", _READ_LEDGER, "/var/lib/hami-dra/ledger.db")
        shown = self._site.cluster.exec(*words, node=1, check=False)
        rows: list[tuple[str, str, JsonObject]] = json.loads(shown.stdout) if shown.returncode == 0 else []
        return rows
