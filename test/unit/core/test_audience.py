"""Who hears of a problem."""

from typing import Any

from unit.claims import UID, claim, result

from hami_dra.core.audience import audience


def test_the_claim_and_its_pods_are_told() -> None:
    """Consumers that are not pods have no Events."""
    made: Any = claim(result())
    made["status"]["reservedFor"] = [
        {"resource": "pods", "name": "trainer", "uid": "p1"},
        {"apiGroup": "scheduling.k8s.io", "resource": "podgroups", "name": "g", "uid": "g1"},
    ]
    assert audience(made) == [
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "namespace": "ml",
            "name": "train",
            "uid": UID,
        },
        {"apiVersion": "v1", "kind": "Pod", "namespace": "ml", "name": "trainer", "uid": "p1"},
    ]
