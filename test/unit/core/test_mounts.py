"""Which shares a process has, by its mounts, and what does not pass for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.core.mounts import Place, container_of, locate, shares_of

CLAIMS = Place("8:1", "/lib/hami-dra/claims")
NODE = """22 1 0:21 / /proc rw,relatime - proc proc rw
30 1 8:0 / / rw - ext4 /dev/sda rw
31 30 8:1 / /var rw - xfs /dev/sdb rw
32 31 8:1 /spare\\040room /var/my\\040disk rw - xfs /dev/sdb rw
not a line of mountinfo
"""


def line(
    root: str = "/lib/hami-dra/claims/uid-1/gpu-s1/usage", point: str = "/run/hami/gpu-s1/usage", device: str = "8:1"
) -> str:
    """One mount of a container."""
    return f"612 590 {device} {root} {point} rw,nosuid,nodev,noexec - xfs /dev/sdb rw\n"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/lib/hami-dra/claims", CLAIMS),
        ("/var", Place("8:1", "/")),
        ("/var/my disk/x", Place("8:1", "/spare room/x")),
        ("/variety", Place("8:0", "/variety")),
        ("/proc/1", Place("0:21", "/1")),
    ],
)
def test_a_path_lies_where_the_longest_mount_leads(path: str, place: Place) -> None:
    """As the node plugin finds its own state directory, whatever the node's disks look like."""
    assert locate(NODE, path) == place


def test_a_later_mount_covers_an_earlier_one() -> None:
    """And without mounts nothing lies anywhere."""
    assert locate(NODE + "40 30 0:50 / /var rw - tmpfs tmpfs rw\n", "/var/lib") == Place("0:50", "/lib")
    assert locate("", "/var/lib") is None


def test_a_container_has_the_shares_that_are_mounted() -> None:
    """Both of its shares, and nothing for the limits beside them."""
    other = line("/lib/hami-dra/claims/uid-2/gpu-s2/usage", "/run/hami/gpu-s2/usage")
    limits = line("/lib/hami-dra/claims/uid-1/gpu-s1/limits", "/run/hami/gpu-s1/limits")
    assert shares_of(NODE + line() + limits + other, CLAIMS) == {("uid-1", "gpu-s1"), ("uid-2", "gpu-s2")}


@pytest.mark.parametrize(
    "forged",
    [
        line(device="8:2"),
        line(root="/tmp/lib/hami-dra/claims/uid-1/gpu-s1/usage"),
        line(root="/lib/hami-dra/claims/uid-1/gpu-s1/x/usage"),
        line(root="/lib/hami-dra/claims"),
        line(point="/run/hami/gpu-s2/usage"),
        line(point="/mnt/gpu-s1/usage"),
    ],
)
def test_what_only_looks_like_a_share_is_none(forged: str) -> None:
    """A tenant can mount its own files wherever it likes, but not this file system's at this path."""
    assert shares_of(forged, CLAIMS) == frozenset()


@given(text=st.text(alphabet=st.sampled_from("0:/ \\abc\n-"), max_size=200))
def test_nonsense_is_no_mount(text: str) -> None:
    """Whatever stands there, reading it ends."""
    assert shares_of(text, CLAIMS) == frozenset()
    locate(text, "/a/b")


LAST_WORDS = "/lib/kubelet/pods/3f-1/containers/trainer/0a1b2c3d"


@pytest.mark.parametrize(
    ("root", "device", "name"),
    [
        (LAST_WORDS, "8:1", "trainer"),
        (LAST_WORDS, "8:2", None),
        ("/tmp" + LAST_WORDS, "8:1", None),
        ("/lib/kubelet/pods/3f-1/volumes/kubernetes.io~empty-dir/v" + LAST_WORDS, "8:1", None),
        ("/lib/kubelet/pods/3f-1/etc-hosts", "8:1", None),
        ("/lib/kubelet", "8:1", None),
    ],
)
def test_a_container_is_called_as_kubelet_called_its_directory(root: str, device: str, name: str | None) -> None:
    """Wherever it is mounted; a volume that a tenant fills with such names is none."""
    mounts = NODE + line() + line(root, "/dev/termination-log", device)
    assert container_of(mounts, Place("8:1", "/lib/kubelet")) == name


def test_a_file_system_of_kubelets_own_has_its_directory_as_root() -> None:
    """As where /var/lib/kubelet is a disk."""
    mounts = line("/pods/3f-1/containers/trainer/0a1b2c3d", "/dev/termination-log")
    assert container_of(mounts, Place("8:1", "/")) == "trainer"
