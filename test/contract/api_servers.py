"""What the contract tests of the API server share: one view of a fake and of a real one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hami_dra.api.k8s import JsonObject
from hami_dra.kube.transport import Transport

SLICES = "/apis/resource.k8s.io/v1/resourceslices"
DRIVER = "gpu.hami.io"


@dataclass(frozen=True)
class Api:
    """An API server, and what only its administrator can do to it."""

    transport: Transport
    namespace: str
    forget_history: Callable[[], None]
    """From now on the oldest resource versions are too old to watch from."""
    last_words_s: int = 1
    """A watch of this many seconds is long enough to get a bookmark at its end."""

    @property
    def claims(self) -> str:
        """Path of the claims of the namespace."""
        return f"/apis/resource.k8s.io/v1/namespaces/{self.namespace}/resourceclaims"

    def send(self, method: str, path: str, body: JsonObject | None = None, **rest: Any) -> JsonObject:
        """One request; the body of its answer."""
        return self.transport.request(method, path, body=body, **rest).body

    def add_claim(self, *shares: str, name: str = "claim") -> JsonObject:
        """A claim that the scheduler has allocated: one share of device `gpu` for each of `shares` ("" has no shareID)."""
        request = {"name": "r", "exactly": {"deviceClassName": "c"}}
        claim = self.send("POST", self.claims, _claim(name, self.namespace, spec={"devices": {"requests": [request]}}))
        results = [
            {"request": "r", "driver": "gpu.hami.io", "pool": "n1/gpu", "device": f"gpu{'' if share else '-whole'}"}
            | ({"shareID": share} if share else {})
            for share in shares
        ]
        claim["status"] = {"allocation": {"devices": {"results": results}}}
        return self.send("PUT", f"{self.claims}/{name}/status", claim)


def _claim(name: str, namespace: str, **rest: object) -> JsonObject:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, **rest}


def a_slice(name: str = "", *, node: str = "n1", devices: list[JsonObject] | None = None, **spec: object) -> JsonObject:
    """A ResourceSlice of one node; `spec` overrides fields of its spec."""
    pool = {"name": f"{node}/gpu", "generation": 1, "resourceSliceCount": 1}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name} if name else {"generateName": f"{node}-"},
        "spec": {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices or [], **spec},
    }


def shareable(name: str) -> JsonObject:
    """A device that several claims may share."""
    policy = {"default": "80Gi", "validRange": {"min": "1Mi", "step": "1Mi"}}
    return {
        "name": name,
        "allowMultipleAllocations": True,
        "capacity": {"memory": {"value": "80Gi", "requestPolicy": policy}},
    }
