"""Who is told when something is wrong with a claim: the claim itself, and every pod that waits for it.

`kubectl describe pod` is where people look first.
"""

from hami_dra.api.k8s import ObjectReference, ResourceClaim

__all__ = ["audience"]


def audience(claim: ResourceClaim) -> list[ObjectReference]:
    """The objects on which an Event about the claim belongs."""
    metadata = claim["metadata"]
    namespace = metadata.get("namespace", "")
    about: list[ObjectReference] = [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
    ]
    about += [
        {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": user["name"], "uid": user["uid"]}
        for user in claim.get("status", {}).get("reservedFor", [])
        if user.get("resource") == "pods"
    ]
    return about
