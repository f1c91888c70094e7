"""Caps on the device memory of pods, on a tree that looks like cgroup v2."""

from pathlib import Path

import pytest

from hami_dra.core.errors import NodeStateError
from hami_dra.core.ids import PodUid
from hami_dra.host.dmem import DmemCgroups

POD = PodUid("0f7c1c52-7a0e-4d38-9b1c-0d7f3a1b2c3d")
SPELT = POD.replace("-", "_")
REGION = "drm/0000:c1:00.0/vram"


def cgroup(path: Path, *, handed: str = "cpu memory") -> Path:
    """A cgroup with the files that matter."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.subtree_control").write_text(f"{handed}\n")
    (path / "dmem.max").write_text(f"{REGION} max\n")
    return path


@pytest.mark.parametrize(
    "name",
    [
        f"kubepods.slice/kubepods-pod{SPELT}.slice",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SPELT}.slice",
        f"kubepods/besteffort/pod{POD}",
        f"kubepods/pod{POD}",
        f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{SPELT}.slice",
    ],
)
def test_the_pods_cgroup_is_found_and_capped(tmp_path: Path, name: str) -> None:
    """Whatever drives kubelet's cgroups; each cgroup above the pod's hands the controller down, and the pod's own does not."""
    path = tmp_path / name
    for folder in (path, *path.parents):
        cgroup(folder)
        if folder == tmp_path:
            break
    cgroup(tmp_path / "kubepods.slice/kubepods-pod1_2.slice")
    cgroup(tmp_path / "system.slice")
    cgroups = DmemCgroups(tmp_path)
    assert cgroups.cap(POD, {REGION: 16 << 30})
    assert (path / "dmem.max").read_text() == f"{REGION} {16 << 30}"
    assert (path.parent / "cgroup.subtree_control").read_text() == "+dmem"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+dmem"
    assert (path / "cgroup.subtree_control").read_text() == "cpu memory\n"
    assert cgroups.cap(POD, {REGION: None})
    assert (path / "dmem.max").read_text() == f"{REGION} max"


def test_what_is_handed_down_already_is_left_alone(tmp_path: Path) -> None:
    """A second cap writes nothing above the pod."""
    for folder in (tmp_path, tmp_path / "kubepods"):
        cgroup(folder, handed="cpu dmem")
    cgroup(tmp_path / f"kubepods/pod{POD}")
    assert DmemCgroups(tmp_path).cap(POD, {REGION: 1 << 20})
    assert (tmp_path / "cgroup.subtree_control").read_text() == "cpu dmem\n"


def test_a_pod_without_a_cgroup_cannot_be_capped(tmp_path: Path) -> None:
    """Nor can any where there are no cgroups at all."""
    cgroup(tmp_path / "kubepods.slice")
    assert not DmemCgroups(tmp_path).cap(POD, {REGION: 1})
    assert not DmemCgroups(tmp_path / "absent").cap(POD, {REGION: 1})


def test_a_kernel_that_does_not_take_a_cap_is_an_error(tmp_path: Path) -> None:
    """Nobody may believe that a share is held when it is not: what was written is read back."""
    cgroup(tmp_path, handed="dmem")
    cgroup(tmp_path / "kubepods", handed="dmem")
    path = cgroup(tmp_path / f"kubepods/pod{POD}")
    (path / "dmem.max").unlink()
    with pytest.raises(NodeStateError, match=r"cap the device memory of a pod: .*dmem.max"):
        DmemCgroups(tmp_path).cap(POD, {REGION: 1})
    (path / "dmem.max").symlink_to("/dev/null")
    with pytest.raises(NodeStateError, match="but the kernel says None"):
        DmemCgroups(tmp_path).cap(POD, {REGION: 1})
    (path / "dmem.max").unlink()
    (path / "dmem.max").mkdir()
    with pytest.raises(NodeStateError, match="cap the device memory"):
        DmemCgroups(tmp_path).cap(POD, {REGION: 1})
    (tmp_path / "kubepods/cgroup.subtree_control").unlink()
    with pytest.raises(NodeStateError, match="hand the dmem controller down"):
        DmemCgroups(tmp_path).cap(POD, {REGION: 1})


def test_regions_are_what_the_kernel_lists(tmp_path: Path) -> None:
    """One a line, with its size; a kernel without the controller has none."""
    assert DmemCgroups(tmp_path).regions() == frozenset()
    (tmp_path / "dmem.capacity").write_text(f"{REGION} 206141652992\n\ndrm/0000:03:00.0/stolen 67108864\n")
    assert DmemCgroups(tmp_path).regions() == {REGION, "drm/0000:03:00.0/stolen"}
