"""A healthy cluster as the doctor sees it, and the objects to break it with."""

from datetime import UTC, datetime
from typing import Any

from hami_dra.core.doctor.rights import account_rights, doctor_rights
from hami_dra.core.doctor.view import ClusterView, installed
from hami_dra.core.layout import Server

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
OLD, YOUNG, RENEWED = "2026-11-22T11:00:00Z", "2026-11-22T11:59:50Z", "2026-11-22T11:59:58.123456Z"
GOOD = "apiVersion: gpu.hami.io/v1alpha1\nkind: NodeConfig\nentries:\n- {slots: 8}\n"


def workload(component: str, *, pods: int = 1, account: str | None = None) -> dict[str, Any]:
    """A DaemonSet or Deployment as the chart makes it."""
    args = {
        "node": ["node", "--config-map=hami-dra-node", "--config-key=config.yaml", "--attribution"],
        "controller": ["controller", "--lease-name=hami-dra-controller"],
        "mps": ["mps"],
    }[component]
    status = {"desiredNumberScheduled": pods} if component == "node" else {}
    spec: dict[str, Any] = {
        "template": {"spec": {"serviceAccountName": account or f"hami-dra-{component}", "containers": [{"args": args}]}}
    }
    if component == "controller":
        spec["replicas"] = pods
    labels = {"app.kubernetes.io/component": component}
    return {"metadata": {"name": f"hami-dra-{component}", "labels": labels}, "spec": spec, "status": status}


def plugin(
    node: str | None = "node-1", *, ready: bool = True, component: str = "node", **status: Any
) -> dict[str, Any]:
    """A node plugin's pod, or that of another component."""
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": f"plugin-{node}", "labels": {"app.kubernetes.io/component": component}},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def published(
    node: str = "node-1", *, generation: int = 1, count: int = 1, pool: str | None = None, **device: Any
) -> dict[str, Any]:
    """A slice with one card."""
    card = {"name": "gpu-0", "attributes": {"mode": {"string": "Shares"}}, **device}
    described = {"name": pool or f"{node}/gpu", "generation": generation, "resourceSliceCount": count}
    return {"metadata": {"name": "s"}, "spec": {"nodeName": node, "pool": described, "devices": [card]}}


def device_class(name: str, *, cel: str = "true", config: Any = None, driver: str = "gpu.hami.io") -> dict[str, Any]:
    """A DeviceClass."""
    spec: dict[str, Any] = {"selectors": [{"cel": {"expression": cel}}]}
    if config is not None:
        spec["config"] = [{"opaque": {"driver": driver, "parameters": config}}]
    return {"metadata": {"name": name}, "spec": spec}


def lease(**spec: Any) -> dict[str, Any]:
    """The controller's."""
    return {"spec": {"holderIdentity": "pod-a", "renewTime": RENEWED, "leaseDurationSeconds": 15, **spec}}


def claim(
    *, device_class: str = "gpu.hami.io", created: str = OLD, deleted: bool = False, **status: Any
) -> dict[str, Any]:
    """One request, with whatever status."""
    metadata = {"namespace": "ml", "name": "train", "creationTimestamp": created}
    if deleted:
        metadata["deletionTimestamp"] = OLD
    requests = [{"name": "gpu", "exactly": {"deviceClassName": device_class}}]
    return {"metadata": metadata, "spec": {"devices": {"requests": requests}}, "status": status}


def allocated(driver: str = "gpu.hami.io") -> dict[str, Any]:
    """`status.allocation` on one card."""
    return {"devices": {"results": [{"request": "gpu", "driver": driver, "pool": "node-1/gpu", "device": "gpu-0"}]}}


def said(kind: str, status: str) -> dict[str, Any]:
    """An entry of `status.devices`."""
    condition = {"type": kind, "status": status, "reason": "InvalidConfig", "message": "qos: found 3"}
    return {"driver": "gpu.hami.io", "pool": "node-1/gpu", "device": "gpu-0", "conditions": [condition]}


def waiting(*, made: bool = True, message: str = "0/2 nodes are available") -> dict[str, Any]:
    """A pod that waits for the claim."""
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return {
        "metadata": {"namespace": "ml", "name": "train-0"},
        "spec": {"resourceClaims": [{"name": "gpu"} if made else {"name": "gpu", "resourceClaimName": "train"}]},
        "status": {
            "resourceClaimStatuses": [{"resourceClaimName": "train"}] if made else [],
            "conditions": [condition],
        },
    }


WORKLOADS = [workload("node"), workload("controller")]
POLICY = {"metadata": {"name": "hami-dra-node"}, "spec": {}}
BINDING = {"metadata": {"name": "x"}, "spec": {"policyName": "hami-dra-node", "validationActions": ["Deny"]}}
HEALTHY = ClusterView(
    namespace="hami-system",
    now=NOW,
    version="v1.36.3",
    serves_dra=True,
    server=Server(),
    rights=dict.fromkeys(doctor_rights("hami-system"), True),
    accounts={
        account: dict.fromkeys(rights, True)
        for account, rights in account_rights(installed(WORKLOADS), namespace="hami-system").items()
    },
    workloads=WORKLOADS,
    pods=[plugin()],
    leases=[lease()],
    config_maps=[{"data": {"config.yaml": GOOD}}],
    classes=[device_class("gpu.hami.io"), device_class("other", cel='device.driver == "x"')],
    slices=[published()],
    claims=[claim(allocation=allocated(), devices=[said("Ready", "True")]), claim(device_class="other")],
    pending=[],
    policies=[POLICY],
    bindings=[BINDING],
)
