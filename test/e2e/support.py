"""What the e2e tests have in common: a namespace of their own, pods with claims, a look at a node's files."""

import json
import re
import secrets
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from e2e.kubernetes import has

from hacklib.cluster.namespaces import ProcessId
from hacklib.deployment import Kubectl, KubeObject, Site
from hacklib.deployment.helm import app_version
from hacklib.deployment.waiting import wait_until
from hacklib.paths import REPOSITORY
from hacklib.ui import HackError
from hacklib.versions import Capability
from hami_dra.api.names import CAPACITY_CORES, CAPACITY_MEMORY, CONFIG_API_VERSION, CONFIG_KIND, DRIVER

EXAMPLES = REPOSITORY / "deploy" / "examples"
GIB = 1 << 30
PAUSE = "import signal; signal.signal(signal.SIGTERM, lambda *_: None); signal.pause()"
"""Waits to be told to end, and does so at once: a first process without a handler would have to be killed."""
HOLD = """
from cuda.bindings import driver as cuda
import signal

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
print(cuda.cuMemAlloc({gib} << 30)[0].name, flush=True)
signal.signal(signal.SIGTERM, lambda *_: None)
signal.pause()
"""
"""Takes memory and keeps it; formatted with `gib`."""
_READ_LEDGER = """
import json, sqlite3, sys
ledger = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(json.dumps(dict(ledger.execute("SELECT uid, phase FROM claims"))))
"""


class Tenant:
    """A namespace that enforces the restricted Pod Security Standard; as a context manager it is emptied at its end."""

    def __init__(self, site: Site, kubectl: Kubectl) -> None:
        self.site = site
        self.kubectl = kubectl

    @classmethod
    def of(cls, site: Site, *, name: str) -> Self:
        """A new namespace, called after a test."""
        namespace = f"{re.sub('[^a-z0-9]+', '-', name.lower())[:50].strip('-')}-{secrets.token_hex(3)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": namespace, "labels": labels}
        site.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        kubectl = site.kubectl.within(namespace)
        wait_until(lambda: kubectl.get("serviceaccount", "default"), what="the namespace's service account")
        return cls(site, kubectl)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kubectl.run("delete", "pods,resourceclaims", "--all", "--grace-period=1", timeout_s=90)
        self.kubectl.run("delete", "namespace", self.kubectl.namespace, "--wait=false")

    def example(self, name: str) -> None:
        """Apply a file of deploy/examples, as a user would."""
        self.kubectl.apply(EXAMPLES / f"{name}.yaml")

    def template(self, name: str, *, memory: str | None = None, cores: int | None = None) -> KubeObject:
        """A ResourceClaimTemplate for one share of that size, in the words that this Kubernetes has for it.

        Where cards are cut into parts, it is a part that is held to less by its GpuConfig.
        """
        if has(self.site, Capability.SHARES):
            return share_template(name, memory=memory, cores=cores)
        template = share_template(name)
        sizes = {size: value for size, value in (("memory", memory), ("cores", cores)) if value is not None}
        if sizes:
            configure(template, limits=sizes)
        return template

    def claim_of(self, pod: str, *, name: str = "gpu") -> KubeObject:
        """The claim that was made for a pod from a template."""

        def statuses() -> list[str]:
            listed = self.kubectl.get("pod", pod)["status"].get("resourceClaimStatuses", [])
            return [status["resourceClaimName"] for status in listed if status["name"] == name]

        return self.kubectl.get("resourceclaim", wait_until(statuses, what=f"claim {name} of pod {pod}")[0])

    def events_of(self, pod: str, *, reason: str) -> list[KubeObject]:
        """Events with that reason on a pod or on its claims."""
        names = {pod, *(claim["metadata"]["name"] for claim in self.claims() if _reserved_for(claim, pod))}
        return self.kubectl.events(
            about=lambda event: event["reason"] == reason and event["involvedObject"]["name"] in names
        )

    def wait_condition(self, pod: str, kind: str, *, claim: str = "gpu") -> Mapping[str, Any]:
        """A condition of the first device of a pod's claim, once it is there."""
        return wait_until(
            lambda: condition(self.claim_of(pod, name=claim), kind), what=f"condition {kind} on claim {claim} of {pod}"
        )

    def claims(self) -> Sequence[KubeObject]:
        """All claims of the namespace."""
        return self.kubectl.items("resourceclaims")


def _reserved_for(claim: KubeObject, pod: str) -> bool:
    return any(user["name"] == pod for user in claim.get("status", {}).get("reservedFor", []))


def share_template(name: str, *, memory: str | None = None, cores: int | None = None) -> KubeObject:
    """A ResourceClaimTemplate for one share; without sizes, for a whole card."""
    sizes = {CAPACITY_MEMORY: memory, CAPACITY_CORES: cores}
    requests = {size: value for size, value in sizes.items() if value is not None}
    exactly: KubeObject = {"deviceClassName": DRIVER} | ({"capacity": {"requests": requests}} if requests else {})
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}},
    }


def configure(template: KubeObject, **config: Any) -> None:
    """Give a template a GpuConfig, or more fields of the one that it has."""
    devices = template["spec"]["spec"]["devices"]
    fresh = {"apiVersion": CONFIG_API_VERSION, "kind": CONFIG_KIND}
    (given,) = devices.setdefault("config", [{"opaque": {"driver": DRIVER, "parameters": fresh}}])
    given["opaque"]["parameters"] |= config


def pod(name: str, *, template: str, script: str = PAUSE, node: int | None = None) -> KubeObject:
    """A confined pod with one container that runs a Python script with a share made from a template."""
    return pod_with({"gpu": {"resourceClaimTemplateName": template}}, name=name, script=script, node=node)


def pod_with(
    claims: Mapping[str, Mapping[str, str]], *, name: str, script: str = PAUSE, node: int | None = None
) -> KubeObject:
    """A confined pod with several claims, by their names in the pod."""
    container = {
        "name": "main",
        "image": f"hami-dra-workload:{app_version()}",
        "command": ["python3", "-c", script],
        "resources": {"claims": [{"name": claim} for claim in claims]},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "resourceClaims": [{"name": claim, **source} for claim, source in claims.items()],
            "containers": [container],
        }
        | ({"nodeSelector": {"kubernetes.io/hostname": f"node-{node}"}} if node else {}),
    }


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a node keeps for its claims, by claim UID: how many share directories, whether a CDI file, which phase."""

    shares: Mapping[str, int]
    specs: frozenset[str]
    ledger: Mapping[str, str]

    @property
    def everything(self) -> frozenset[str]:
        """All claims of which there is anything."""
        return self.specs | frozenset(self.shares) | frozenset(self.ledger)


class NodeFiles:
    """The files of a node, looked at from the host through the node's mount namespace."""

    def __init__(self, site: Site, *, node: int) -> None:
        self._site = site
        self._node = node

    @property
    def root(self) -> Path:
        """The node's file system."""
        spec = self._site.cluster.spec
        first = ProcessId.load(spec.first_process_file)
        assert first is not None
        in_cluster = (spec.node(self._node).folder / "pid").read_text(encoding="utf-8").strip()
        return Path(f"/proc/{first.pid}/root/proc/{in_cluster}/root")

    @property
    def cdi_dir(self) -> Path:
        """Where the node plugin writes CDI specs."""
        return self.root / "run/cdi"

    @property
    def state_dir(self) -> Path:
        """Where the node plugin keeps its state."""
        return self.root / "var/lib/hami-dra"

    def cdi_spec(self, uid: str) -> KubeObject:
        """The CDI spec of a claim."""
        spec: KubeObject = json.loads((self.cdi_dir / f"{DRIVER}-claim_{uid}.json").read_text(encoding="utf-8"))
        return spec

    def prepared(self) -> Prepared:
        """Everything that the node keeps for claims."""
        return Prepared(shares=self.share_directories(), specs=self.cdi_claims(), ledger=self._ledger())

    def share_directories(self) -> Mapping[str, int]:
        """How many shares each claim has a directory for."""
        claims = (self.state_dir / "claims").glob("*")
        return {path.name: sum(share.is_dir() for share in path.iterdir()) for path in claims}

    def cdi_claims(self) -> frozenset[str]:
        """The claims that have a CDI file."""
        return frozenset(path.stem.partition("_")[2] for path in self.cdi_dir.iterdir())

    def _ledger(self) -> Mapping[str, str]:
        """Phase by claim UID, read within the node: SQLite wants the path under which the node plugin opened the file."""
        shown = self._site.cluster.exec(
            sys.executable, "-c", _READ_LEDGER, "/var/lib/hami-dra/ledger.db", node=self._node
        )
        phases: Mapping[str, str] = json.loads(shown.stdout)
        return phases


def condition(claim: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """A condition of the claim's first device of this driver, or None."""
    devices = [device for device in claim.get("status", {}).get("devices", []) if device["driver"] == DRIVER]
    conditions = devices[0].get("conditions", []) if devices else []
    return next((entry for entry in conditions if entry["type"] == kind), None)


def plugin_processes(site: Site, *, node: int) -> list[int]:
    """Host process ids of a node's plugin: told by its command line and by the cgroup of the cluster."""
    flag = f"--node-name=node-{node}".encode()

    def ours(process: Path) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            return flag in words and site.cluster.spec.cgroup in (process / "cgroup").read_text(encoding="utf-8")
        except OSError:
            return False

    return [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit() and ours(process)]


def nudged(tenant: Tenant, probe: Callable[[], bool], *, what: str) -> None:
    """Wait until a probe is true, and have kubelet look at the tenant's pods now and then.

    After a prepare that failed, kubelet lets more than a minute pass before the next, unless the pod changes.
    """
    for attempt in range(24):
        try:
            wait_until(probe, what=what, deadline_s=5)
        except HackError:
            tenant.kubectl.run("annotate", "pods", "--all", f"attempt={attempt}", "--overwrite")
        else:
            return
    raise HackError(f"{what}: not in time\n" + tenant.kubectl.run("get", "pods,events"))


def all_run(tenant: Tenant, names: Collection[str]) -> None:
    """Wait until the pods run."""

    def running() -> bool:
        pods = {item["metadata"]["name"]: item["status"].get("phase") for item in tenant.kubectl.items("pods")}
        return {name for name, phase in pods.items() if phase == "Running"} >= set(names)

    nudged(tenant, running, what="all pods run")


def eventually(
    probe: Callable[[], object], *, what: str, deadline_s: float = 30.0, detail: Callable[[], object] = lambda: ""
) -> None:
    """Wait until a probe is true; whether it failed an assertion or was false in between does not matter."""

    def quiet() -> bool:
        try:
            return bool(probe())
        except AssertionError:
            return False

    wait_until(quiet, what=what, deadline_s=deadline_s, detail=detail)
