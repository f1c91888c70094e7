"""What the API server offers, and what that means for cards."""

import re

from hami_dra.api.names import GATE_CONSUMABLE_CAPACITY, GATE_PARTITIONABLE_DEVICES, GATE_TAINTS
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.doctor.view import ClusterView, Unknown
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import Gpu, MigSupport
from hami_dra.core.layout import Layout, Server, missing_gates, wished_layout
from hami_dra.core.settings import CardMode, CardSettings

__all__ = ["judge_api"]

_GATES = (GATE_CONSUMABLE_CAPACITY, GATE_PARTITIONABLE_DEVICES, GATE_TAINTS)
_COSTS = {
    GATE_CONSUMABLE_CAPACITY: "cards are cut into fixed shares instead of by memory and cores",
    GATE_PARTITIONABLE_DEVICES: "cards are not cut into MIG partitions or compute modes on demand",
    GATE_TAINTS: "a card that is not healthy is withdrawn instead of tainted",
}
_OWN_SLICES = (1, 35)
"""From this release on counters may lie in slices of their own, which is how they are published."""
_CARD = Gpu(
    name=DeviceName("gpu-0000-00-00-0"),
    uuid=GpuUuid("GPU-0"),
    vendor="nvidia",
    product_name="any with MIG",
    memory_bytes=1 << 30,
    pci_address="0000:00:00.0",
    mig=MigSupport(enabled=False, switchable=True, profiles=()),
)
"""A card that can be cut in every way."""


def judge_api(view: ClusterView) -> list[Finding]:
    """The version, the gates, and the layouts that follow."""
    if not view.serves_dra:
        advice = "hami-dra needs Kubernetes 1.34 or later, with resource.k8s.io/v1 not switched off by --runtime-config"
        return [problem("api-server", f"{view.version} does not serve resource.k8s.io/v1", advice)]
    served = ok("api-server", f"{view.version} serves resource.k8s.io/v1")
    if isinstance(view.server, Unknown):
        found = f"the API server was not asked what it keeps of a slice: {view.server.why}"
        advice = "ask as somebody who may create resourceslices (nothing is created: it is a dry run)"
        return [served, warning("feature-gates", found, advice)]
    return [served, *_gates(view.server, view.version), *(_layout(mode, view.server) for mode in CardMode)]


def _gates(server: Server, version: str) -> list[Finding]:
    check = "feature-gates"
    findings = [
        warning(check, f"the API server drops the fields of {gate}: {_COSTS[gate]}", _to_open(gate, version))
        for gate in _GATES
        if gate in server.closed
    ]
    return findings or [ok(check, f"the API server keeps the fields of {', '.join(_GATES)}")]


def _to_open(gate: str, version: str) -> str:
    later = " on Kubernetes 1.35 or later" if gate == GATE_PARTITIONABLE_DEVICES and _is_old(version) else ""
    return f"start kube-apiserver, kube-scheduler and every kubelet with --feature-gates={gate}=true{later}"


def _is_old(version: str) -> bool:
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) < _OWN_SLICES


def _layout(mode: CardMode, server: Server) -> Finding:
    settings = CardSettings(mode=mode)
    layout = wished_layout(_CARD, settings, server)
    found = f"a card of mode {mode} is published as {_described(layout)}"
    if layout.mode is not mode:
        found += f", because {' and '.join(sorted(missing_gates(_CARD, settings, server)))} is closed"
    elif mode is CardMode.PARTITIONS and not layout.shared:
        why = (
            f"{GATE_CONSUMABLE_CAPACITY} is closed" if server.closed else "this scheduler cannot (1.36.2 and later can)"
        )
        found += f"; a partition is not shared, because {why}"
    return ok("layouts", found)


def _described(layout: Layout) -> str:
    return {
        CardMode.PARTITIONS: "every partition at every place, and the card",
        CardMode.SHARES: "one device that many claims share",
        CardMode.FIXED_SHARES: f"{layout.parts} equal devices",
        CardMode.WHOLE: "one device for one claim",
    }[layout.mode]
