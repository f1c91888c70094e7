"""Device metadata files (KEP-5304): what a container can read of the devices of a request, without asking the API server.

One file for each request of a claim that asks for it (`GpuConfig.deviceMetadata`), at the path and in the format of Kubernetes'
own library for Go drivers: attributes as in the ResourceSlice, and beside them those of the share, which the format has no field
for.  Invariant: a container sees the files of the requests that it refers to, and no other.
Source: KEP-5304 and k8s.io/dynamic-resource-allocation 1.36, kubeletplugin and api/metadata/v1alpha1.
"""

import json

from hami_dra.api.k8s import Attribute, JsonObject
from hami_dra.api.names import CONTAINER_METADATA_DIR, DRIVER, METADATA_API_VERSION, METADATA_KIND
from hami_dra.core.devices import device_attributes
from hami_dra.core.inventory import Inventory, fixed_share_index
from hami_dra.core.plan import ClaimPlan, PlannedShare

__all__ = ["brings_metadata", "container_path", "file_name", "metadata_files"]


def brings_metadata(plan: ClaimPlan, share: PlannedShare) -> bool:
    """Whether the share brings the file of its request: the first of those that ask for it does."""
    return next((each for each in plan.shares if _asks(each, share.spec.base_request)), None) is share


def file_name(request: str) -> str:
    """In the claim's directory on the node."""
    return f"metadata-{request}.json"


def container_path(plan: ClaimPlan, request: str) -> str:
    """Where containers find the file: by the name of the claim in the pod where it was made from a template."""
    whose = f"resourceclaimtemplates/{plan.pod_claim}" if plan.pod_claim else f"resourceclaims/{plan.name}"
    return f"{CONTAINER_METADATA_DIR}/{whose}/{request}/{DRIVER}-metadata.json"


def metadata_files(plan: ClaimPlan, inventory: Inventory) -> dict[str, str]:
    """The files of the claim, by their names on the node.

    Args:
        plan: with its partitions named.
        inventory: what the node has; devices that are gone have no attributes but those of their shares.
    """
    first = [share for share in plan.shares if brings_metadata(plan, share)]
    return {file_name(share.spec.base_request): _text(plan, share, inventory) for share in first}


def _text(plan: ClaimPlan, first: PlannedShare, inventory: Inventory) -> str:
    shares = [share for share in plan.shares if _asks(share, first.spec.base_request)]
    content: JsonObject = {
        "apiVersion": METADATA_API_VERSION,
        "kind": METADATA_KIND,
        "metadata": {"name": plan.name, "namespace": plan.namespace, "uid": plan.uid, "generation": 1},
        "requests": [{"name": first.spec.request, "devices": [_device(share, inventory) for share in shares]}],
    }
    if plan.pod_claim:
        content["podClaimName"] = plan.pod_claim
    return json.dumps(content, indent=2) + "\n"


def _asks(share: PlannedShare, request: str) -> bool:
    return share.spec.device_metadata and share.spec.base_request == request


def _device(share: PlannedShare, inventory: Inventory) -> JsonObject:
    spec = share.spec
    return {
        "driver": DRIVER,
        "pool": spec.pool,
        "name": spec.device,
        "attributes": _of_device(share, inventory) | _of_share(share),
    }


def _of_device(share: PlannedShare, inventory: Inventory) -> dict[str, Attribute]:
    gpu, device = inventory.card(share.spec.device), share.spec.device
    if gpu is None:
        return {}
    if share.partition is None:
        return device_attributes(gpu, kind="gpu" if fixed_share_index(device) is None else "share")
    attributes = device_attributes(gpu, partition=share.partition.place)
    uuid = share.partition.uuid
    return attributes if uuid is None else attributes | {"uuid": Attribute(string=uuid)}


def _of_share(share: PlannedShare) -> dict[str, Attribute]:
    """What the container was given of the device; a monitor was given nothing."""
    spec = share.spec
    said: dict[str, Attribute] = {"isolation": Attribute(string=str(spec.isolation))}
    if spec.share_id is not None:
        said["shareID"] = Attribute(string=spec.share_id)
    if spec.admin_access:
        return said | {"adminAccess": Attribute(bool=True)}
    return said | {
        "shareMemoryBytes": Attribute(int=share.memory_bytes),
        "shareCoresPercent": Attribute(int=share.cores_percent),
        "qos": Attribute(string=str(spec.qos)),
        "priority": Attribute(string=str(spec.priority)),
    }
