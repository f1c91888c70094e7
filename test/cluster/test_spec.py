"""What users may ask of a cluster, and what its processes read."""

from pathlib import Path

import pytest
from cluster.support import make_spec

from hacklib.cluster.spec import ClusterSpec, NodeMount, cluster_name, parse_gates, parse_mount
from hacklib.ui import HackError


def test_a_spec_survives_its_file(tmp_path: Path) -> None:
    """Every process of a cluster reads what `up` wrote, whole."""
    spec = make_spec(tmp_path)
    spec.save()
    assert ClusterSpec.load(tmp_path) == spec


def test_clusters_of_one_name_in_two_caches_have_cgroups_of_their_own(tmp_path: Path) -> None:
    """The name alone does not decide the cgroup: two checkouts may test at once."""
    assert make_spec(tmp_path / "a").cgroup != make_spec(tmp_path / "b").cgroup


def test_nodes_do_not_share_addresses_or_folders(tmp_path: Path) -> None:
    """Whatever is per node differs between nodes."""
    spec = make_spec(tmp_path, nodes=50)
    nodes = [spec.node(index) for index in range(1, 51)]
    for values in ([n.address for n in nodes], [n.pod_network for n in nodes], [n.folder for n in nodes]):
        assert len(set(values)) == 50


@pytest.mark.parametrize("index", [0, -1, 3])
def test_a_node_that_does_not_exist_is_named(tmp_path: Path, index: int) -> None:
    """Asking for a node that is not there says which there are."""
    with pytest.raises(HackError, match="nodes 1 to 2"):
        make_spec(tmp_path).node(index)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 33, "a b"])
def test_names_that_cannot_be_paths_are_refused(name: str) -> None:
    """A cluster's name becomes a folder and a cgroup."""
    with pytest.raises(HackError, match="cluster name"):
        cluster_name(name)


def test_gates_are_read_as_kubernetes_writes_them() -> None:
    """A=true,B=false, and nothing at all."""
    assert parse_gates("A=true,B=false") == {"A": True, "B": False}
    assert parse_gates("") == {}


@pytest.mark.parametrize("text", ["A", "A=yes", "=true", "A=true;B=false", "A b=true"])
def test_gates_that_no_component_would_accept_are_refused(text: str) -> None:
    """A mistyped gate is told at once, not by a kube-apiserver that does not start."""
    with pytest.raises(HackError, match="expected Name=true or Name=false"):
        parse_gates(text)


def test_a_mount_names_a_node_and_two_places(tmp_path: Path) -> None:
    """NODE:SOURCE:TARGET, where the source exists."""
    assert parse_mount(f"2:{tmp_path}:/var/lib/x") == NodeMount(node=2, source=str(tmp_path), target="/var/lib/x")


@pytest.mark.parametrize("text", ["", "1", "x:/tmp:/a", "1:tmp:/a", "1:/tmp:a", "1:/does/not/exist:/a"])
def test_mounts_that_cannot_be_made_are_refused(text: str) -> None:
    """The error names what was typed."""
    with pytest.raises(HackError, match="node mount"):
        parse_mount(text)
