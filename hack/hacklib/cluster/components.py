"""The programs of a cluster, their arguments and their configuration files.

Pure: a ClusterSpec or a Node goes in, command lines and file contents come out.  Why an option is there is said
beside it unless its name says so.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hacklib.cluster.spec import API_ADDRESS, ClusterSpec, Node, gates_argument, served_argument

__all__ = [
    "CONTAINERD_SOCKET",
    "Component",
    "api_server",
    "cni_config",
    "containerd",
    "containerd_config",
    "control_plane_clients",
    "etcd",
    "image_import",
    "kube_proxy",
    "kubelet",
    "kubelet_config",
]

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
SERVICE_NETWORK = "10.96.0.0/16"
POD_NETWORK = "10.88.0.0/16"


@dataclass(frozen=True, kw_only=True)
class Component:
    """A program that a supervisor runs."""

    name: str
    argv: tuple[str, ...]


def etcd(spec: ClusterSpec) -> Component:
    """The store; it need not survive a power cut."""
    data = spec.folder / "etcd"
    return _component(spec, "etcd", f"--data-dir={data}", "--unsafe-no-fsync", "--log-level=warn")


def api_server(spec: ClusterSpec) -> Component:
    """The API server, on the first address of the network and on port 443, which pods reach through the service."""
    pki = spec.pki
    return _component(
        spec,
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=443",
        f"--advertise-address={API_ADDRESS}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.key",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--token-auth-file={pki}/tokens.csv",
        "--allow-privileged",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--enable-aggregator-routing",  # no kube-proxy beside it: webhooks are called by pod address
        "--shutdown-delay-duration=0s",
        *gates_argument(spec.feature_gates),
        *served_argument(spec.kubernetes, spec.feature_gates),
    )


def control_plane_clients(spec: ClusterSpec) -> list[Component]:
    """The controller-manager and the scheduler."""
    pki = spec.pki

    def client(name: str, *arguments: str) -> Component:
        config = spec.folder / f"{name}.kubeconfig"
        access = [f"--{purpose}kubeconfig={config}" for purpose in ("", "authentication-", "authorization-")]
        common = [*access, "--leader-elect=false", f"--cert-dir={pki / name}", *gates_argument(spec.feature_gates)]
        return _component(spec, name, *common, *arguments)

    manager = client(
        "kube-controller-manager",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        "--controllers=*",
        "--use-service-account-credentials",
        "--node-monitor-grace-period=20s",
        f"--flex-volume-plugin-dir={spec.folder}/volume-plugins",
    )
    return [manager, client("kube-scheduler")]


def containerd(node: Node) -> Component:
    """The container runtime of a node."""
    return _component(node.spec, "containerd", "--config", str(node.folder / "containerd.toml"))


def image_import(node: Node, archive: Path) -> Component:
    """Loads an OCI archive into a node's containerd, and ends."""
    words = ("-a", CONTAINERD_SOCKET, "-n", "k8s.io", "images", "import", "--local", str(archive))
    return Component(name=f"import-{archive.stem}", argv=(str(node.spec.programs / "ctr"), *words))


def kubelet(node: Node) -> Component:
    """The kubelet of a node."""
    spec = node.spec
    return _component(
        spec,
        "kubelet",
        f"--config={node.folder}/kubelet.json",
        f"--kubeconfig={spec.folder}/{node.name}.kubeconfig",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",  # else it looks its name up, for a minute
        f"--cert-dir={node.folder}/kubelet-pki",
        "-v=2",
    )


def kube_proxy(node: Node) -> Component:
    """Makes services work in the node's network."""
    return _component(
        node.spec,
        "kube-proxy",
        f"--kubeconfig={node.spec.folder}/kube-proxy.kubeconfig",
        "--proxy-mode=nftables",
        f"--hostname-override={node.name}",
        f"--cluster-cidr={POD_NETWORK}",
        "--conntrack-max-per-core=0",  # a setting of the whole machine
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    )


def kubelet_config(node: Node) -> str:
    """The kubelet's configuration file."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "featureGates": dict(node.spec.feature_gates),
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{node.cgroup}",
            "enforceNodeAllocatable": ["pods"],
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{node.spec.pki}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            # No name server is there and the host's are out of reach: this way names fail at once instead of late.
            "clusterDNS": ["10.96.0.10"],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            "makeIPTablesUtilChains": False,
            "localStorageCapacityIsolation": False,
            "imageGCHighThresholdPercent": 100,
            "evictionHard": dict.fromkeys(
                ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"
            ),
            "nodeStatusUpdateFrequency": "5s",
            "volumePluginDir": "/var/lib/kubelet/plugins/volume",
            "shutdownGracePeriod": "0s",
        }
        | _impatience(node.spec.feature_gates)
    )


def _impatience(gates: Mapping[str, bool]) -> dict[str, object]:
    """Where the gate is open, a container that dies again and again is started again after two seconds, not after minutes."""
    return {"crashLoopBackOff": {"maxContainerRestartPeriod": "2s"}} if gates.get("KubeletCrashLoopBackOffMax") else {}


def containerd_config(node: Node) -> str:
    """The configuration file of containerd: state on disk below the node's folder, CDI on, what a bare host may lack off."""
    programs, folder = node.spec.programs, node.folder
    return f"""\
version = 3
root = '{folder}/containerd'
state = '/run/containerd'
[grpc]
address = '{CONTAINERD_SOCKET}'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{node.spec.pause_image}'
[plugins.'io.containerd.cri.v1.runtime']
enable_cdi = true
cdi_spec_dirs = ['/etc/cdi', '/var/run/cdi']
disable_apparmor = true
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
BinaryName = '{programs}/runc'
SystemdCgroup = false
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['{programs}/cni']
conf_dir = '{folder}/cni'
[plugins.'io.containerd.internal.v1.opt']
path = '{folder}/opt'
[plugins.'io.containerd.nri.v1.nri']
disable = true
"""


def cni_config(node: Node) -> str:
    """The network of a node's pods: a bridge, addresses from a file, and host ports."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "ranges": [[{"subnet": node.pod_network}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True}
    ports = {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge | {"ipam": addresses}, ports]})


def _component(spec: ClusterSpec, program: str, *arguments: str) -> Component:
    return Component(name=program, argv=(str(spec.programs / program), *arguments))
