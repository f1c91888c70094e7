"""A cluster whose nodes have simulated cards, and the product installed on it by its chart.

`Site.up` is what the demo, the e2e tests and the benchmarks begin with; everything after that is kubectl.  A site is a
context manager: at the end of its block nothing of it is left.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hacklib import image
from hacklib.cluster import Cluster
from hacklib.deployment.helm import NAMESPACE, Helm
from hacklib.deployment.kubectl import Kubectl, KubeObject, Refused
from hacklib.deployment.simulated import DRIVER_ROOT, Card, create_cards, observe
from hacklib.deployment.waiting import wait_until
from hacklib.native.build import build as build_native
from hacklib.ui import HackError, Ui

__all__ = ["DRIVER", "Models", "Parts", "Site", "build_parts"]

DRIVER = "gpu.hami.io"
Models = Sequence[tuple[str, int]]
"""Cards of a node: how many of which model."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a site is made of, as OCI archives."""

    product: Path
    workload: Path


def build_parts(*, ui: Ui) -> Parts:
    """Build what is not built yet: the C libraries, the product's image, the image of the examples."""
    guard = build_native(preset="release", ui=ui) / "libhami_guard.so"
    return Parts(
        product=image.build("product", guard=guard, ui=ui).archive, workload=image.build("workload", ui=ui).archive
    )


class Site:
    """A running cluster with cards; made by `up`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        programs, config = cluster.spec.programs, f"--kubeconfig={cluster.kubeconfig}"
        self.kubectl = Kubectl(*cluster.words(), programs / "kubectl", config)
        self.helm = Helm(*cluster.words(), programs / "helm", config)
        self.system = self.kubectl.within(NAMESPACE)

    @classmethod
    def up(
        cls,
        *,
        name: str,
        cards: Sequence[Models],
        kubernetes: str = "1.36",
        feature_gates: Mapping[str, bool] | None = None,
        ui: Ui,
    ) -> Self:
        """A cluster with one node for each entry of `cards`, the images loaded; the product is not installed yet."""
        parts = build_parts(ui=ui)
        cluster = Cluster.up(
            name=name,
            nodes=len(cards),
            kubernetes=kubernetes,
            feature_gates=feature_gates,
            images=[parts.product, parts.workload],
            ui=ui,
        )
        try:
            site = cls(cluster)
            for index, models in enumerate(cards, start=1):
                create_cards(site.driver_root(index), models)
        except BaseException:
            cluster.down()
            raise
        return site

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.cluster.down()

    def driver_root(self, node: int) -> Path:
        """A node's simulated driver root, as the host sees it."""
        return self.cluster.spec.node(node).folder / "var-lib" / Path(DRIVER_ROOT).name

    def cards(self, node: int) -> list[Card]:
        """The cards of a node and who uses them, asked of the simulated driver from outside."""
        return observe(self.driver_root(node))

    def install(self, *, values: Mapping[str, Any] | None = None, timeout_s: int = 120) -> None:
        """Install or upgrade the product and wait until its pods are ready and the slices of all nodes are there."""
        wanted = {"source": "sim", "driverRoot": DRIVER_ROOT, **(values or {})}
        try:
            self.helm.install(values=wanted, timeout_s=timeout_s)
        except HackError as error:
            raise HackError(f"{error}\n{self.system_story()}") from error
        nodes = {self.cluster.spec.node(index).name for index in range(1, self.cluster.spec.nodes + 1)}
        wait_until(
            lambda: {item["spec"].get("nodeName") for item in self.slices()} >= nodes,
            what=f"ResourceSlices of {', '.join(sorted(nodes))}",
            detail=self.system_story,
        )

    def slices(self) -> Sequence[KubeObject]:
        """The product's ResourceSlices."""
        return self.kubectl.items("resourceslices", f"--field-selector=spec.driver={DRIVER}")

    def node_plugin(self, node: int) -> str:
        """The name of the pod of a node's plugin; the newest, where an update has two of them overlap."""
        name = self.cluster.spec.node(node).name
        pods = self.system.items(
            "pods", "--selector=app.kubernetes.io/component=node", f"--field-selector=spec.nodeName={name}"
        )
        alive = [pod["metadata"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return str(max(alive, key=lambda metadata: str(metadata["creationTimestamp"]))["name"])

    def system_story(self) -> str:
        """What the product's own pods do and say, for error messages."""
        shown = [self.system.run("get", "pods", "-o", "wide"), *self.system.last_events()]
        for pod in self.system.items("pods"):
            name = pod["metadata"]["name"]
            shown.append(f"log of {name}:")
            with suppress(Refused):
                shown += self.system.logs(name, "--tail=15")
        return "\n".join(shown)
