"""Command lines and configuration files of a cluster's components."""

import json
import tomllib
from pathlib import Path

from cluster.support import make_spec

from hacklib.cluster import components
from hacklib.cluster.components import Component
from hacklib.cluster.spec import served_argument


def options(component: Component) -> dict[str, str]:
    """The options of a command line with their values."""
    return {key: value for key, _, value in (word.partition("=") for word in component.argv[1:])}


def test_gates_reach_every_component_that_knows_them(tmp_path: Path) -> None:
    """API server, controller-manager, scheduler and kubelet must agree about feature gates."""
    spec = make_spec(tmp_path)
    for component in (components.api_server(spec), *components.control_plane_clients(spec)):
        assert options(component)["--feature-gates"] == "AllAlpha=false,DRAConsumableCapacity=true"
    kubelet = json.loads(components.kubelet_config(spec.node(1)))
    assert kubelet["featureGates"] == {"AllAlpha": False, "DRAConsumableCapacity": True}


def test_the_runtime_reads_cdi_files_and_keeps_its_state_in_the_nodes_folder(tmp_path: Path) -> None:
    """The file of containerd is valid, has CDI on in both folders, and nothing of it outlives the cluster's folder."""
    node = make_spec(tmp_path).node(2)
    config = tomllib.loads(components.containerd_config(node))
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["enable_cdi"] is True
    assert runtime["cdi_spec_dirs"] == ["/etc/cdi", "/var/run/cdi"]
    assert Path(config["root"]).is_relative_to(node.folder)
    assert config["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == node.spec.pause_image


def test_the_kubelet_keeps_to_its_own_cgroup_and_network(tmp_path: Path) -> None:
    """Two kubelets on one kernel must not see each other's pods."""
    spec = make_spec(tmp_path)
    first, second = (json.loads(components.kubelet_config(spec.node(index))) for index in (1, 2))
    assert first["cgroupRoot"] == f"/{spec.cgroup}/node-1"
    assert second["cgroupRoot"] == f"/{spec.cgroup}/node-2"
    assert options(components.kubelet(spec.node(2)))["--node-ip"] == "10.77.0.12"


def test_pods_of_a_node_get_addresses_of_its_own_network(tmp_path: Path) -> None:
    """The CNI file names the node's range, which the cluster's routes lead to."""
    network = json.loads(components.cni_config(make_spec(tmp_path).node(2)))
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.88.2.0/24"}]]


def test_programs_come_from_the_cluster_and_not_from_the_host(tmp_path: Path) -> None:
    """A kubelet that happens to be in PATH is never started."""
    spec = make_spec(tmp_path)
    node = spec.node(1)
    started = [
        components.etcd(spec),
        components.api_server(spec),
        *components.control_plane_clients(spec),
        components.containerd(node),
        components.image_import(node, Path("/a.tar")),
        components.kubelet(node),
        components.kube_proxy(node),
    ]
    assert {str(Path(component.argv[0]).parent) for component in started} == {"/programs"}


def test_a_gate_whose_objects_are_not_served_by_default_has_them_served() -> None:
    """Whoever opens it wants to write them."""
    assert served_argument("1.36.3", {}) == []
    assert served_argument("1.36.3", {"DRADeviceTaintRules": False, "DRADeviceTaints": True}) == []
    for version, gate, served in (
        ("1.36.3", "DRADeviceTaintRules", "v1beta2"),
        ("1.35.4", "DRADeviceTaintRules", "v1alpha3"),
        ("1.34.4", "DRADeviceTaints", "v1alpha3"),
    ):
        assert served_argument(version, {gate: True}) == [f"--runtime-config=resource.k8s.io/{served}=true"]
