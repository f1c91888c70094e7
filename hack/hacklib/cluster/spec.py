"""What a cluster is: its name, size, version and where it lies; parsed from what a user typed, kept as one JSON file.

Every process of a cluster reads the same file, so nothing is passed twice.  Addresses are the same in all clusters:
each has a network namespace of its own.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NewType

from hacklib import paths
from hacklib.ui import HackError

__all__ = [
    "ACCEPTED",
    "API_ADDRESS",
    "MAX_NODES",
    "ClusterName",
    "ClusterSpec",
    "Node",
    "NodeMount",
    "cluster_name",
    "parse_gates",
    "parse_mount",
]

ClusterName = NewType("ClusterName", str)

MAX_NODES = 50
API_ADDRESS = "10.77.0.1"
ACCEPTED = b"+"
"""What `up` sends to the keeper when it has seen the cluster ready; from then on the cluster outlives `up`."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class NodeMount:
    """A folder of the host that one node sees at another place."""

    node: int
    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """Everything that the processes of one cluster have to know."""

    name: ClusterName
    folder: Path
    programs: Path
    kubernetes: str
    nodes: int
    feature_gates: Mapping[str, bool]
    pause_image: str
    images: tuple[Path, ...]
    node_mounts: tuple[NodeMount, ...]

    @property
    def cgroup(self) -> str:
        """The cgroup of this cluster in every hierarchy; differs between caches that use the same name."""
        return f"hami-dra-{self.name}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]}"

    @property
    def control_plane_cgroup(self) -> str:
        """Where etcd, the API server, the controller-manager and the scheduler are."""
        return f"{self.cgroup}/control-plane"

    @property
    def logs(self) -> Path:
        """Where each component has a log file."""
        return self.folder / "logs"

    @property
    def pki(self) -> Path:
        """Keys, certificates and tokens."""
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; the address in it exists inside the cluster's network only."""
        return self.folder / "admin.kubeconfig"

    @property
    def api_ready_file(self) -> Path:
        """Exists once the API server has answered."""
        return self.folder / "api-ready"

    @property
    def first_process_file(self) -> Path:
        """Which process is the first of the cluster's namespaces, in the host's numbers."""
        return self.folder / "first-process"

    @property
    def phase_file(self) -> Path:
        """What the cluster is doing, for people; `ready` at last."""
        return self.folder / "phase"

    def say(self, phase: str) -> None:
        """Tell whoever waits what the cluster is doing."""
        fresh = self.phase_file.with_suffix(".new")
        fresh.write_text(phase, encoding="utf-8")
        fresh.replace(self.phase_file)

    def node(self, index: int) -> "Node":
        """One node, counted from 1.  Raises HackError if there is no such node."""
        if not 1 <= index <= self.nodes:
            raise HackError(f"cluster {self.name} has nodes 1 to {self.nodes}, not {index}")
        return Node(spec=self, index=index)

    def save(self) -> None:
        """Write the file that `load` reads."""
        data = asdict(self) | {"folder": str(self.folder), "programs": str(self.programs)}
        data["images"] = [str(path) for path in self.images]
        (self.folder / "cluster.json").write_text(json.dumps(data, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ClusterSpec":
        """The cluster that lies in `folder`.  Raises OSError if there is none."""
        data: dict[str, Any] = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
        data["folder"], data["programs"] = Path(data["folder"]), Path(data["programs"])
        data["images"] = tuple(Path(path) for path in data["images"])
        data["node_mounts"] = tuple(NodeMount(**mount) for mount in data["node_mounts"])
        return cls(**data)


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node of a cluster."""

    spec: ClusterSpec
    index: int

    @property
    def name(self) -> str:
        """The name of its Node object."""
        return f"node-{self.index}"

    @property
    def folder(self) -> Path:
        """Where everything of the node lies: `var-lib` is its /var/lib, `var-log` its /var/log."""
        return self.spec.folder / "nodes" / str(self.index)

    @property
    def address(self) -> str:
        """Its InternalIP."""
        return f"10.77.0.{10 + self.index}"

    @property
    def pod_network(self) -> str:
        """The addresses of its pods."""
        return f"10.88.{self.index}.0/24"

    @property
    def cgroup(self) -> str:
        """The parent of its pods' cgroups."""
        return f"{self.spec.cgroup}/{self.name}"

    @property
    def up_file(self) -> Path:
        """Exists once the node's namespaces do."""
        return self.folder / "up"

    @property
    def loaded_file(self) -> Path:
        """Exists once the node has the images that the cluster was started with, also after a reboot."""
        return self.folder / "loaded"

    @property
    def started_file(self) -> Path:
        """Exists once all components of the node run."""
        return self.folder / "started"


def cluster_name(text: str) -> ClusterName:
    """A name that can be part of a path and of a cgroup.  Raises HackError for any other."""
    if not _NAME.fullmatch(text):
        raise HackError(f"cluster name {text!r}: at most 32 of a-z, 0-9 and - are allowed, with no - at the ends")
    return ClusterName(text)


def parse_gates(text: str) -> dict[str, bool]:
    """Feature gates as Kubernetes writes them: `A=true,B=false`."""
    gates = {}
    for item in filter(None, text.split(",")):
        gate, _, value = item.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9]+", gate) or value not in {"true", "false"}:
            raise HackError(f"feature gate {item!r}: expected Name=true or Name=false")
        gates[gate] = value == "true"
    return gates


def parse_mount(text: str) -> NodeMount:
    """A mount as written on the command line: `NODE:SOURCE:TARGET`."""
    index, _, rest = text.partition(":")
    source, _, target = rest.partition(":")
    if not index.isdigit() or not source.startswith("/") or not target.startswith("/"):
        raise HackError(f"node mount {text!r}: expected NODE:/source:/target")
    if not Path(source).is_dir():
        raise HackError(f"node mount {text!r}: {source} is not a directory")
    return NodeMount(node=int(index), source=source, target=target)


_SERVED_ON_DEMAND = {
    ("1.34", "DRADeviceTaints"): "resource.k8s.io/v1alpha3",
    ("1.35", "DRADeviceTaintRules"): "resource.k8s.io/v1alpha3",
    ("1.36", "DRADeviceTaintRules"): "resource.k8s.io/v1beta2",
}
"""API versions that are off by default, and without which an open gate has the scheduler wait for ever, or does nothing."""


def gates_argument(gates: Mapping[str, bool]) -> list[str]:
    """The `--feature-gates` option of the Kubernetes programs, or nothing."""
    words: Iterable[str] = (f"{name}={str(value).lower()}" for name, value in sorted(gates.items()))
    return [f"--feature-gates={','.join(words)}"] if gates else []


def served_argument(kubernetes: str, gates: Mapping[str, bool]) -> list[str]:
    """The `--runtime-config` option of the API server, for open gates whose objects it serves on demand only; or nothing.

    `kubernetes` is the version with its patch.
    """
    minor = kubernetes.rpartition(".")[0]
    wanted = {_SERVED_ON_DEMAND.get((minor, name), "") for name, value in gates.items() if value}
    versions = sorted(filter(None, wanted))
    return [f"--runtime-config={','.join(f'{version}=true' for version in versions)}"] if versions else []


def folder_of(name: ClusterName) -> Path:
    """Where the cluster of that name lies, or would."""
    return paths.clusters_dir() / name
