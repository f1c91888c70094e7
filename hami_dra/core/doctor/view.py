"""What was seen of a cluster, as far as it could be seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hami_dra.api.k8s import JsonObject
from hami_dra.core.layout import Server

__all__ = ["ClusterView", "Installed", "Right", "Seen", "Unknown", "Workload", "installed"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody could tell."""

    why: str


Seen = Sequence[JsonObject] | Unknown
"""Objects of the API server."""

_NOT_ASKED: Final = Unknown("nobody asked")


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """What an account may do, as RBAC says it."""

    group: str
    resource: str
    """With its subresource, as `resourceclaims/status`."""
    verb: str
    namespace: str = ""
    """Empty: everywhere."""
    name: str = ""
    """Empty: all of them."""

    def __str__(self) -> str:
        """As people say it."""
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f' {self.name}' if self.name else ''}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A DaemonSet or Deployment of ours."""

    name: str
    account: str
    flags: Mapping[str, str]
    """Of its container: `--config-map=x` is `config-map: x`."""
    wanted: int
    """Pods that there should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The workloads of the chart; None where there is none."""

    plugin: Workload | None = None
    controller: Workload | None = None
    mps: Workload | None = None

    @property
    def config_map(self) -> str:
        """Where the node configuration lies."""
        return "" if self.plugin is None else self.plugin.flags.get("config-map", "")

    @property
    def config_key(self) -> str:
        """Under which key."""
        return "" if self.plugin is None else self.plugin.flags.get("config-key", "")

    @property
    def lease(self) -> str:
        """By which the controllers elect their leader."""
        return "" if self.controller is None else self.controller.flags.get("lease-name", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterView:
    """Everything that was looked at."""

    namespace: str
    """Where the product is installed."""
    now: datetime
    version: str
    """As `/version` gives it, such as `v1.36.3`."""
    serves_dra: bool
    """Whether there is resource.k8s.io/v1."""
    server: Server | Unknown = _NOT_ASKED
    rights: Mapping[Right, bool] | Unknown = _NOT_ASKED
    """Of whoever asks."""
    accounts: Mapping[str, Mapping[Right, bool]] | Unknown = _NOT_ASKED
    """Of the service accounts, by name."""
    workloads: Seen = _NOT_ASKED
    pods: Seen = _NOT_ASKED
    """Of the product."""
    leases: Seen = _NOT_ASKED
    config_maps: Seen = _NOT_ASKED
    classes: Seen = _NOT_ASKED
    slices: Seen = _NOT_ASKED
    """Of this driver."""
    claims: Seen = _NOT_ASKED
    """All of them."""
    pending: Seen = _NOT_ASKED
    """Pods of any namespace that are Pending."""
    policies: Seen = _NOT_ASKED
    bindings: Seen = _NOT_ASKED


def installed(workloads: Seen) -> Installed:
    """The workloads of the product, told by their labels."""
    found = [] if isinstance(workloads, Unknown) else workloads
    by_component = {_component(each): _workload(each) for each in found}
    return Installed(
        plugin=by_component.get("node"), controller=by_component.get("controller"), mps=by_component.get("mps")
    )


def _component(obj: JsonObject) -> str:
    return str((obj["metadata"].get("labels") or {}).get("app.kubernetes.io/component", ""))


def _workload(obj: JsonObject) -> Workload:
    pod: Any = obj["spec"]["template"]["spec"]
    words = [word.removeprefix("--").partition("=") for word in pod["containers"][0].get("args", [])]
    status = obj.get("status", {})
    return Workload(
        name=obj["metadata"]["name"],
        account=pod.get("serviceAccountName", "default"),
        flags={name: value for name, equals, value in words if equals},
        wanted=obj["spec"].get("replicas", status.get("desiredNumberScheduled", 0)),
    )
