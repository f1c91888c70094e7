"""What this cluster's API server keeps of a slice.

Found out by dry runs that nothing is published by, whenever the server's version changes and now and then without a cause, since
feature gates can be opened without an upgrade.  What a real write loses counts as well: servers of one cluster can differ.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from hami_dra._lib.clock import Clock
from hami_dra.core.errors import Invalid
from hami_dra.core.gates import counts_shares, dropped_gates, probes
from hami_dra.core.ids import NodeName
from hami_dra.core.layout import Server
from hami_dra.core.slices import pool_name
from hami_dra.node.ports import SliceStore

__all__ = ["Gates"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    server: Server
    version: str
    asked_s: float


class Gates:
    """Knows what the API server keeps, as far as anybody has asked.  For one thread."""

    def __init__(
        self,
        *,
        slices: SliceStore,
        server_version: Callable[[], str],
        node: NodeName,
        retry_s: float,
        clock: Clock,
    ) -> None:
        """Nothing is known before the first `look`.

        Args:
            slices: of this driver on this node.
            server_version: asks the API server for its version.
            node: whose slices the server is asked about.
            retry_s: after which it is asked again.
            clock: measures that.
        """
        self._slices = slices
        self._server_version = server_version
        self._node = node
        self._retry_s = retry_s
        self._clock = clock
        self._answer: _Answer | None = None

    @property
    def server(self) -> Server:
        """As it is known."""
        return Server() if self._answer is None else self._answer.server

    def look(self) -> Server:
        """What the server keeps; asks it if the answer may have changed.

        Raises:
            KubeError: it could not be asked.
        """
        version, now = self._server_version(), self._clock.monotonic()
        before = self._answer
        if before is not None and before.version == version and now - before.asked_s < self._retry_s:
            return before.server
        server = Server(closed=self._closed(), counts_shares=counts_shares(version))
        self._answer = _Answer(server, version, now)
        if before is None or before.server != server:
            _log.info(
                "what the API server keeps of a slice",
                extra={"serverVersion": version, "closedGates": sorted(server.closed)},
            )
        return server

    def lost(self, gates: frozenset[str]) -> Server:
        """A write has lost fields of these gates."""
        before = self._answer or _Answer(Server(), self._server_version(), self._clock.monotonic())
        server = Server(closed=before.server.closed | gates, counts_shares=before.server.counts_shares)
        self._answer = _Answer(server, before.version, before.asked_s)
        return server

    def _closed(self) -> frozenset[str]:
        closed: frozenset[str] = frozenset()
        for gates, spec in probes(node=self._node, pool=pool_name(self._node)):
            try:
                kept = self._slices.try_create({"metadata": {"generateName": f"{self._node}-probe-"}, "spec": spec})
            except Invalid:
                closed |= gates
            else:
                closed |= dropped_gates(spec, kept["spec"])
        return closed
