"""A node's cards published to a real API server, in every mode: from the decision until the server has kept the last slice.

The publisher is the node plugin's own, with its reads, dry runs and read-backs; the cards are A100s that can be cut, made up.
Each round starts from the mode before, so that it pays for a new generation: slices deleted, replaced and created.
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from prometheus_client import CollectorRegistry
from unit.core.inventories import MIG, gpu

from hacklib.cluster.cluster import Cluster
from hami_dra._lib.threads import Group
from hami_dra.api.names import DRIVER
from hami_dra.core.ids import NodeName
from hami_dra.core.inventory import Inventory, device_name
from hami_dra.core.settings import CardMode, CardSettings, NodeSettings
from hami_dra.kube.client import ClusterTransport, kubeconfig
from hami_dra.kube.nodes import node_uid
from hami_dra.kube.slices import NodeSlices
from hami_dra.kube.transport import Transport
from hami_dra.kube.version import server_version
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.publisher import Publisher, PublisherInputs, PublisherOptions

__all__ = ["main"]

NODE = NodeName("node-1")
MODES = (
    CardSettings(mode=CardMode.SHARES, slots=100),
    CardSettings(mode=CardMode.PARTITIONS),
    CardSettings(mode=CardMode.FIXED_SHARES, fixed_shares=100),
)


@dataclass
class Bench:
    """One node's publisher."""

    transport: Transport
    inventory: Inventory
    settings: NodeSettings = field(default_factory=NodeSettings)

    def __post_init__(self) -> None:
        self.slices = NodeSlices(self.transport, driver=DRIVER, node=NODE)
        self.publisher = Publisher(
            slices=self.slices,
            node_uid=lambda: node_uid(self.transport, NODE),
            server_version=lambda: server_version(self.transport).text,
            inputs=PublisherInputs(
                inventory=lambda: self.inventory, settings=lambda: self.settings, held=frozenset, taints=dict
            ),
            options=PublisherOptions(node=NODE),
            metrics=NodeMetrics(CollectorRegistry()),
            group=Group("bench"),
        )

    def publish(self, chosen: CardSettings) -> float:
        """Seconds until everything is published in that mode."""
        self.settings = NodeSettings(default=chosen)
        started = time.perf_counter()
        self.publisher.sync()
        return time.perf_counter() - started

    def published(self) -> tuple[int, int]:
        """Slices and devices."""
        specs = [item["spec"] for item in self.slices.list()]
        return len(specs), sum(len(spec.get("devices", [])) for spec in specs)


def main(argv: Sequence[str] | None = None) -> int:
    """Bring up a control plane, measure, print a table in Markdown, and take it down."""
    parser = argparse.ArgumentParser(prog="test/bench/publish", description=__doc__.partition("\n")[0])
    parser.add_argument("--cards", type=int, default=16, metavar="N", help="cards of the node")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="publications in each mode")
    arguments = parser.parse_args(argv)
    card = gpu(mig=MIG)
    cards = (replace(card, name=device_name(f"0000:{number:02x}:00.0")) for number in range(arguments.cards))
    with _cluster() as transport:
        bench = Bench(transport, Inventory(gpus=tuple(cards)))
        first_s = bench.publish(MODES[0])
        rows = {chosen.mode: (list[float](), bench.published()) for chosen in MODES}
        for _ in range(arguments.rounds):
            for chosen in (*MODES[1:], MODES[0]):
                taken, _ = rows[chosen.mode]
                taken.append(bench.publish(chosen))
                rows[chosen.mode] = taken, bench.published()
    print(f"| {arguments.cards} cards as | slices | devices | median ms | worst ms |")
    print("| --- | --- | --- | --- | --- |")
    for mode, (taken, (slices, devices)) in rows.items():
        print(f"| {mode} | {slices} | {devices} | {statistics.median(taken) * 1000:.0f} | {max(taken) * 1000:.0f} |")
    print(f"\nfirst publication, with dry runs: {first_s * 1000:.0f} ms")
    return 0


@contextmanager
def _cluster() -> Iterator[Transport]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"subprocess \d+ is still running", category=ResourceWarning)
        running = Cluster.up(name=f"bench-{os.getpid()}", nodes=1, kubernetes="1.36")
    with running, running.network():
        yield ClusterTransport(kubeconfig(running.kubeconfig))
