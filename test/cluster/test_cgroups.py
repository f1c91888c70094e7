"""cgroup folders on v1 and on v2, on a file system that only looks like one."""

import os
from pathlib import Path

import pytest

from hacklib.cluster import cgroups
from hacklib.ui import HackError


def hierarchy(folder: Path, **files: str) -> Path:
    """A folder with the files that the kernel would show; a double underscore stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ({"cgroup__procs": ""} | files).items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_v1_gets_a_folder_in_every_hierarchy_and_a_cpuset_with_cpus(tmp_path: Path) -> None:
    """On v1 a new cpuset has no CPU; it must be given its parent's or nothing can run in it."""
    hierarchy(tmp_path / "memory")
    hierarchy(tmp_path / "cpuset", cpuset__cpus="0-3", cpuset__mems="0")
    for depth in ("a", "a/node-1"):
        hierarchy(tmp_path / "cpuset" / depth, cpuset__cpus="", cpuset__mems="")
    (tmp_path / "not-a-hierarchy").mkdir()
    cgroups.make("a/node-1", root=tmp_path)
    assert (tmp_path / "memory/a/node-1").is_dir()
    assert (tmp_path / "cpuset/a/node-1/cpuset.cpus").read_text() == "0-3"
    assert not (tmp_path / "not-a-hierarchy/a").exists()


def test_v1_with_linked_hierarchies_uses_each_once(tmp_path: Path) -> None:
    """The hierarchies cpu and cpuacct are often links to one hierarchy."""
    hierarchy(tmp_path / "cpu,cpuacct")
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    assert cgroups.hierarchies(tmp_path) == [tmp_path / "cpu,cpuacct"]


def test_v2_hands_controllers_down(tmp_path: Path) -> None:
    """On v2 a child has only the controllers that its parent hands to it."""
    for depth in ("", "a", "a/node-1"):
        hierarchy(tmp_path / depth, cgroup__controllers="pids", cgroup__subtree_control="")
    cgroups.make("a/node-1", root=tmp_path)
    for depth in ("", "a", "a/node-1"):
        assert (tmp_path / depth / "cgroup.subtree_control").read_text() == "+pids"


def test_a_process_joins_a_leaf(tmp_path: Path) -> None:
    """Parents hand their controllers on, the leaf does not: v2 wants no processes in cgroups that do."""
    for depth in ("", "a", "a/system"):
        hierarchy(tmp_path / depth, cgroup__controllers="pids", cgroup__subtree_control="")
    cgroups.join("a/system", root=tmp_path)
    assert (tmp_path / "a/system/cgroup.procs").read_text() == str(os.getpid())
    assert (tmp_path / "a/system/cgroup.subtree_control").read_text() == ""


def test_a_weight_is_that_of_so_many_cpus(tmp_path: Path) -> None:
    """Whichever controller there is."""
    hierarchy(tmp_path / "cpu", cgroup__procs="")
    hierarchy(tmp_path / "cpu/a", cpu__shares="1024")
    cgroups.weigh("a", cpus=4, root=tmp_path)
    assert (tmp_path / "cpu/a/cpu.shares").read_text() == "4096"


def test_a_machine_without_cgroups_is_told_so(tmp_path: Path) -> None:
    """The message names the place that was looked at."""
    with pytest.raises(HackError, match=str(tmp_path)):
        cgroups.check_writable(tmp_path)


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    """`down` may be called twice."""
    hierarchy(tmp_path / "memory")
    cgroups.remove("a", root=tmp_path)
