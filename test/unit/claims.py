"""Claims as the API server would show them, for unit tests: only what a test names is unusual."""

from typing import Any

from hami_dra.api.k8s import AllocationResult, ResourceClaim

UID = "0f5a0a4e-6f0c-4b0e-9d7c-0a1b2c3d4e5f"
SHARE = "6b0f1d3e-1111-4222-8333-444455556666"
GPU = "gpu-0000-17-00-0"


def result(request: str = "gpu", **changes: Any) -> AllocationResult:
    """16 GiB and 30 cores of the first card; a change to None removes the field."""
    fields: dict[str, Any] = {
        "request": request,
        "driver": "gpu.hami.io",
        "pool": "node-1/gpu",
        "device": GPU,
        "shareID": SHARE,
        "consumedCapacity": {"memory": "16Gi", "cores": "30", "slots": "1"},
    } | changes
    kept: Any = {name: value for name, value in fields.items() if value is not None}
    checked: AllocationResult = kept
    return checked


def config(parameters: object, *, source: str = "FromClaim", requests: list[str] | None = None) -> dict[str, Any]:
    """One entry of the allocation's configuration, for our driver."""
    entry: dict[str, Any] = {"source": source, "opaque": {"driver": "gpu.hami.io", "parameters": parameters}}
    return entry | ({"requests": requests} if requests is not None else {})


def gpu_config(**fields: object) -> dict[str, object]:
    """Parameters of kind GpuConfig."""
    return {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig"} | fields


def claim(*results: AllocationResult, configs: tuple[dict[str, Any], ...] = (), **metadata: Any) -> ResourceClaim:
    """A claim with these results allocated."""
    made: Any = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"namespace": "ml", "name": "train", "uid": UID, "resourceVersion": "7"} | metadata,
        "status": {"allocation": {"devices": {"results": list(results), "config": list(configs)}}},
    }
    checked: ResourceClaim = made
    return checked
