"""Pods by their cgroups, in every spelling."""

import pytest

from hami_dra.core.cgroups import pod_uid

UID = "6b0f2a6e-0000-4000-8000-00000000000a"
OTHER = "6b0f2a6e-0000-4000-8000-00000000000b"
SYSTEMD = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"

FOUND = {
    "cgroupfs": f"0::/kubepods/besteffort/pod{UID}/4f0c",
    "cgroupfs, guaranteed": f"0::/kubepods/pod{UID}/4f0c",
    "systemd": f"0::/kubepods.slice/kubepods-burstable.slice/{SYSTEMD}/cri-containerd-4f0c.scope",
    "the pod itself": f"0::/kubepods/pod{UID}",
    "below a cluster in a cgroup": f"0::/some/where/kubelet.slice/{SYSTEMD}/cri-containerd-4f0c.scope/init",
    "version 1": f"12:devices:/kubepods/pod{UID}/4f0c\n11:cpu:/kubepods/pod{UID}/4f0c\n",
    "a tenant that makes a pod's name below": f"0::/kubepods/pod{UID}/4f0c/pod{OTHER}",
}


@pytest.mark.parametrize("cgroup", FOUND.values(), ids=FOUND)
def test_the_pod_is_found(cgroup: str) -> None:
    """Whoever drives the cgroups, and whatever is made below."""
    assert pod_uid(cgroup) == UID


@pytest.mark.parametrize(
    "cgroup", ["", "0::/", "0::/system.slice/containerd.service", "nonsense", f"0::/pod{UID[:-1]}", f"0::/xpod{UID}y"]
)
def test_what_is_no_pod_is_none(cgroup: str) -> None:
    """A service of the node, a process that has ended, a name that only looks similar."""
    assert pod_uid(cgroup) is None
