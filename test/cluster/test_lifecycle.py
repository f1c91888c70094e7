"""Real clusters: they start, run pods, live side by side, take faults, and leave nothing however they end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.support import HACK, tool_environment

from hacklib import image
from hacklib.cluster import Cluster, NodeMount, cgroups
from hacklib.cluster.namespaces import ProcessId
from hacklib.cluster.spec import ClusterSpec, cluster_name, folder_of
from hacklib.deployment import wait_until
from hacklib.image import oci
from hacklib.image.oci import Config
from hacklib.image.tree import Tree
from hacklib.ui import HackError, Ui

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOTS = ("/etc", "/opt", "/run", "/usr/libexec", "/var/lib", "/var/log")
NAMES = ("cdi", "cni", "containerd", "containers", "etcd", "hami-dra", "hami-sim", "kubelet", "kubernetes", "pods")
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "hello"},
    "spec": {
        "restartPolicy": "Never",
        "securityContext": {"runAsUser": 4711, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "hello",
                "image": "hami-dra-workload:" + image.version(),
                "args": ["-c", "import numpy, os, pynvml; print(os.getuid(), numpy.arange(5).sum())"],
                "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
            }
        ],
    },
}


def traces(name: str) -> list[str]:
    """What is left of the cluster of that name: processes, cgroups, mounts, its folder."""
    folder = folder_of(cluster_name(name))
    found = [str(path) for path in folder.parent.glob(f"*{name}*")]
    for hierarchy in cgroups.hierarchies():
        found += [str(path) for path in hierarchy.glob(f"hami-dra-{name}-*")]
    found += [line for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines() if str(folder) in line]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(folder).encode() in word for word in words):
            found.append(f"process {entry.parent.name}: {b' '.join(words).decode()}")
    return found


def up_in_background(name: str) -> subprocess.Popen[bytes]:
    """`hack/cluster up`, as a user starts it: also where these tests run in the background, whose shell ignores Ctrl-C."""
    words = ["env", "--default-signal=INT", sys.executable, str(HACK / "cluster"), "up", "--name", name]
    return subprocess.Popen(words, env=tool_environment(), start_new_session=True)


def process_of(name: str, what: str) -> int:
    """The keeper or the first process of a cluster."""
    found = ProcessId.load(folder_of(cluster_name(name)) / what)
    assert found is not None
    return found.pid


@pytest.fixture
def name() -> Iterator[str]:
    """A name of this test's own, free again at its end."""
    chosen = f"t{os.getpid()}-{time.monotonic_ns() % 100000}"
    yield chosen
    subprocess.run([sys.executable, HACK / "cluster", "down", "--name", chosen], env=tool_environment(), check=True)


def host_files() -> set[str]:
    """All files of the host in places where Kubernetes and its company keep theirs."""
    folders = [Path.home() / ".kube", *(Path(root, name) for root in ROOTS for name in NAMES)]
    return {str(path) for folder in folders for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with the workload image, and a folder of the host on one of them."""
    workload = image.build("workload", ui=Ui()).archive
    before = host_files()
    extra = NodeMount(node=1, source=str(tmp_path_factory.mktemp("extra")), target="/var/lib/extra")
    name = f"shared-{os.getpid()}"
    with Cluster.up(name=name, nodes=2, images=[workload], node_mounts=[extra], ui=Ui()) as made:
        yield made
    assert traces(made.spec.name) == []
    assert host_files() == before


def ready_nodes(cluster: Cluster) -> int:
    """How many nodes are Ready."""
    listed = cluster.kubectl("get", "nodes", "--no-headers", check=False).stdout
    return listed.count(" Ready")


def run_pod(cluster: Cluster, *, on: str) -> str:
    """The output of a pod that runs to its end on a node."""
    pod = POD | {"spec": {**POD["spec"], "nodeName": on}}  # type: ignore[dict-item]  # a literal from above
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "pod/hello", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=100s")
    output = cluster.kubectl("logs", "hello").stdout
    cluster.kubectl("delete", "pod", "hello", "--now")
    return output


def test_pods_run_on_every_node_as_any_user_without_a_writable_root(cluster: Cluster) -> None:
    """The workload image needs no privilege, and its logs come back through the API server."""
    for node in ("node-1", "node-2"):
        assert run_pod(cluster, on=node) == "4711 10\n"


def test_nodes_have_folders_of_their_own(cluster: Cluster) -> None:
    """What one node writes below /var/lib, /run and /etc is seen by no other node and not by the host."""
    for folder in ("/var/lib/hami-sim", "/var/lib/hami-dra", "/etc/cdi", "/var/run/cdi", "/run"):
        cluster.exec("touch", f"{folder}/mine", node=1)
        assert cluster.exec("ls", f"{folder}/mine", node=2, check=False).returncode
        assert not Path(folder, "mine").exists()
    assert (cluster.spec.node(1).folder / "var-lib/hami-sim/mine").exists()


def test_a_folder_of_the_host_is_mounted_on_the_node_that_asked(cluster: Cluster) -> None:
    """What the host writes there the node reads, and other nodes have no such folder."""
    (mount,) = cluster.spec.node_mounts
    Path(mount.source, "seen").write_text("yes", encoding="utf-8")
    assert cluster.exec("cat", "/var/lib/extra/seen", node=1).stdout == "yes"
    assert cluster.exec("ls", "/var/lib/extra", node=2, check=False).returncode


def test_an_image_can_be_replaced_by_another_of_the_same_name(cluster: Cluster, tmp_path: Path) -> None:
    """As soon as `load_image` returns, every kubelet uses the new image."""
    for content in ("first", "second"):
        tree = Tree()
        tree.text("/content", content)
        config = Config(entrypoint=["/none"], environment={})
        oci.write(tmp_path / "image.tar", reference="replaced:1", tree=tree, config=config)
        cluster.load_image(tmp_path / "image.tar")
        _, image_id = oci.identity(tmp_path / "image.tar")
        for node in (1, 2):
            assert image_id in cluster.exec("crictl", "inspecti", "-q", "replaced:1", node=node).stdout


def test_what_is_no_image_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    """A file that is no archive is named before anything is loaded."""
    (tmp_path / "no.tar").write_text("no")
    for archive in (tmp_path / "no.tar", tmp_path / "missing.tar"):
        with pytest.raises(HackError, match="not an archive of one named OCI image"):
            cluster.load_image(archive)


def test_programs_of_this_process_can_join_the_network(cluster: Cluster) -> None:
    """A client in the test process reaches the API server within `network`, and only there."""
    words = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "--request-timeout=2s", "get", "--raw", "/readyz"]
    with cluster.network():
        inside = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=False)
    outside = subprocess.run(words, env=cluster.environment, capture_output=True, text=True, check=False)
    assert inside.stdout == "ok"
    assert outside.returncode


def test_components_take_faults_and_come_back(cluster: Cluster) -> None:
    """Kubelet, containerd and API server can each be killed, paused and started; pods go on and the node is Ready again."""
    assert set(cluster.components().values()) == {"running"}
    cluster.kill("node-1/kubelet")
    assert cluster.components()["node-1/kubelet"] == "exited -9"
    cluster.start("node-1/kubelet")
    cluster.restart_kubelet(2)
    cluster.restart("node-1/containerd")
    cluster.pause("kube-apiserver")
    assert cluster.kubectl("--request-timeout=1s", "get", "nodes", check=False).returncode
    cluster.resume("kube-apiserver")
    cluster.stop("kube-apiserver")
    cluster.start("kube-apiserver")
    wait_until(lambda: ready_nodes(cluster) == 2, what="both nodes Ready", deadline_s=60)
    assert run_pod(cluster, on="node-1") == "4711 10\n"
    assert set(cluster.components().values()) == {"running"}


def test_a_node_can_be_rebooted(cluster: Cluster) -> None:
    """After a reboot a node has another boot id, an empty /run and what it kept on disk, and runs pods again."""
    before = cluster.exec("cat", "/proc/sys/kernel/random/boot_id", node=2).stdout
    cluster.exec("touch", "/run/volatile", "/var/lib/durable", node=2)
    cluster.restart("node-2")
    assert cluster.exec("cat", "/proc/sys/kernel/random/boot_id", node=2).stdout != before
    assert cluster.exec("ls", "/run/volatile", node=2, check=False).returncode
    assert cluster.exec("ls", "/var/lib/durable", node=2).returncode == 0
    assert run_pod(cluster, on="node-2") == "4711 10\n"


def test_a_name_in_use_is_refused(cluster: Cluster) -> None:
    """A second cluster of the same name is refused, and the first one lives on."""
    with pytest.raises(HackError, match="runs already"):
        Cluster.up(name=cluster.spec.name, ui=Ui())
    assert cluster.spec.name in Cluster.names()


def test_two_clusters_live_side_by_side(cluster: Cluster, name: str) -> None:
    """Another cluster has the same addresses and node names, and neither sees the other."""
    with Cluster.up(name=name, ui=Ui()) as other:
        other.kubectl("create", "namespace", "only-here")
        assert cluster.kubectl("get", "namespace", "only-here", check=False).returncode
        assert ready_nodes(other) == 1
    assert traces(name) == []
    assert set(cluster.components().values()) == {"running"}


def test_a_gate_that_does_not_exist_is_told_by_the_component_that_refused_it(name: str) -> None:
    """`up` fails with the last words of the API server, and leaves nothing."""
    with pytest.raises(HackError, match=r"kube-apiserver exited(.|\n)*NoSuchGate"):
        Cluster.up(name=name, feature_gates={"NoSuchGate": True}, ui=Ui())
    assert traces(name) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_start_leaves_nothing(name: str, how: signal.Signals) -> None:
    """Ctrl-C, a job that is cancelled, and kill -9 of `up`, in the middle of a start."""
    starting = up_in_background(name)
    wait_until((folder_of(cluster_name(name)) / "first-process").exists, what="the first process", deadline_s=60)
    starting.send_signal(how)  # to its process, as `kill` does; the keeper has a session of its own
    assert starting.wait(timeout=60) != 0
    wait_until(lambda: traces(name) == [], what="the end of all traces", deadline_s=60)


@pytest.mark.parametrize("victim", ["keeper", "first-process"])
def test_a_killed_cluster_leaves_nothing(name: str, victim: str) -> None:
    """Whoever of the two that hold a cluster is killed -9, the other one cleans up."""
    Cluster.up(name=name, ui=Ui())
    os.kill(process_of(name, victim), signal.SIGKILL)
    wait_until(lambda: traces(name) == [], what="the end of all traces", deadline_s=60)


def test_remains_of_a_dead_cluster_are_removed_by_the_next(name: str) -> None:
    """Keeper and first process killed at once leave cgroups and a folder; the next `up` of that name removes them."""
    spec = Cluster.up(name=name, ui=Ui()).spec
    keeper, first = (process_of(name, what) for what in ("keeper", "first-process"))
    os.kill(keeper, signal.SIGSTOP)  # or it would clean up
    os.kill(first, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    assert any((hierarchy / spec.cgroup).exists() for hierarchy in cgroups.hierarchies())
    with Cluster.up(name=name, ui=Ui()) as again:
        assert ready_nodes(again) == 1
        assert ClusterSpec.load(spec.folder).cgroup == spec.cgroup
    assert traces(name) == []
