"""Shares that the kernel holds: the pod is capped before kubelet hears that its claim is prepared."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from node_rig import Crash, Rig

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.errors import InvalidConfig, NodeStateError
from hami_dra.core.inventory import DeviceFile, DriverFiles, Holder, Inventory
from hami_dra.testing.gpus import allocated_claim, gpu, share_result

REGION = "drm/0000:17:00.0/vram"
GIB = 1 << 30


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A node with a card whose shares the kernel holds, and one that the guard holds."""
    amd = replace(gpu(0), vendor="amd", holder=Holder.KERNEL, memory_region=REGION)
    kfd = DriverFiles(device_files=(DeviceFile(host_path="/dev/kfd", container_path="/dev/kfd"),))
    rig = Rig(tmp_path, hardware=Inventory(gpus=(amd, gpu(1)), drivers={"amd": kfd}))
    yield rig
    rig.close()


def claim(
    name: str = "train", *, pod: str = "pod-1", memory_gib: int = 16, index: int = 0, cores: int = 0
) -> ResourceClaim:
    """A claim of that pod for so much of a card."""
    made = allocated_claim(
        name, share_result(index=index, share_id=f"share-{name}", memory_gib=memory_gib, cores=cores)
    )
    made["status"]["reservedFor"] = [{"resource": "pods", "name": pod, "uid": pod}]
    return made


def test_a_pod_is_capped_when_its_claim_is_prepared(rig: Rig) -> None:
    """Before the CDI file is there; without the guard, but with the share's files; and once more it is the same."""
    seen: list[dict[str, int]] = []
    rig.on_effect = lambda name: seen.append(dict(rig.pods.caps.get("pod-1", {}))) if name == "cdi.write" else None
    reference = rig.claims.add(claim())
    for _ in range(2):
        rig.prepare(reference)
    assert seen[0] == {REGION: 16 * GIB}
    assert rig.pods.caps == {"pod-1": {REGION: 16 * GIB}}
    spec = rig.cdi_file("train-uid").read_text()
    assert "libhami_guard" not in spec
    assert "/dev/kfd" in spec
    assert "/limits" in spec


def test_claims_of_one_pod_add_up(rig: Rig) -> None:
    """Each that comes or goes leaves the sum of the others; the last one lifts the cap."""
    first, second = rig.claims.add(claim("a")), rig.claims.add(claim("b", memory_gib=8))
    rig.prepare(first)
    rig.prepare(second)
    rig.prepare(rig.claims.add(claim("other", pod="pod-2", memory_gib=4)))
    assert rig.pods.caps == {"pod-1": {REGION: 24 * GIB}, "pod-2": {REGION: 4 * GIB}}
    rig.unprepare(first)
    assert rig.pods.caps["pod-1"] == {REGION: 8 * GIB}
    rig.unprepare(second)
    assert rig.pods.caps["pod-1"] == {}


def test_a_pod_that_is_gone_needs_no_cap(rig: Rig) -> None:
    """Unprepare succeeds although kubelet has removed the pod's cgroup."""
    reference = rig.claims.add(claim())
    rig.prepare(reference)
    rig.pods.without.add("pod-1")
    rig.unprepare(reference)
    assert rig.facts().ledger == {}


def test_a_pod_that_cannot_be_held_gets_nothing(rig: Rig) -> None:
    """The claim fails with the reason, and nothing of it is left."""
    rig.pods.without.add("pod-1")
    with pytest.raises(NodeStateError, match="claim ml/train: pod pod-1 has no cgroup"):
        rig.prepare(rig.claims.add(claim()))
    assert (rig.facts().ledger, rig.facts().cdi) == ({}, set())


def test_a_claim_of_several_pods_is_refused(rig: Rig) -> None:
    """A cap is on a pod: two pods with one claim would get twice its share."""
    made = claim()
    made["status"]["reservedFor"].append({"resource": "pods", "name": "pod-2", "uid": "pod-2"})
    with pytest.raises(InvalidConfig, match="2 pods with one claim"):
        rig.prepare(rig.claims.add(made))


def test_cores_cannot_be_promised_where_the_kernel_holds(rig: Rig) -> None:
    """The kernel knows memory only, and says so; on the card beside it the guard knows both."""
    with pytest.raises(InvalidConfig, match="which knows device memory only, but cores is 30"):
        rig.prepare(rig.claims.add(claim(cores=30)))
    rig.prepare(rig.claims.add(claim("green", index=1, cores=30)))
    assert rig.pods.caps == {}
    assert "libhami_guard" in rig.cdi_file("green-uid").read_text()


def test_a_monitor_is_held_to_nothing(rig: Rig) -> None:
    """Admin access sees the card and consumes nothing of it, so that its pod keeps whatever cap it has."""
    made = claim()
    made["status"]["allocation"]["devices"]["results"][0]["adminAccess"] = True
    rig.prepare(rig.claims.add(made))
    assert rig.pods.caps == {}


@pytest.mark.parametrize(
    "effect", ["ledger.begin done", "pods.cap", "pods.cap done", "shares.ensure done", "cdi.write done"]
)
def test_a_crash_between_any_two_effects_is_healed(rig: Rig, effect: str) -> None:
    """The next start undoes what was begun, the cap too, and the next prepare puts it back."""
    reference = rig.claims.add(claim())
    rig.crash_at(effect)
    with pytest.raises(Crash):
        rig.prepare(reference)
    rig.start()
    assert rig.pods.caps.get("pod-1", {}) == {}
    rig.prepare(reference)
    assert rig.pods.caps == {"pod-1": {REGION: 16 * GIB}}


def test_after_a_reboot_caps_are_not_looked_for(rig: Rig) -> None:
    """Pods of another boot have no cgroups any more."""
    rig.prepare(rig.claims.add(claim()))
    rig.pods.caps.clear()
    rig.reboot()
    assert rig.pods.caps == {}
    assert rig.facts().ledger == {}
