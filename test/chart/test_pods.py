"""What the chart's pods may do on a node, and how they are probed and replaced."""

from typing import Any

import pytest

from hacklib.deployment.helm import Helm
from hacklib.ui import HackError

SIM = {"source": "sim", "driverRoot": "/var/lib/simgpu"}


def _pod(helm: Helm, kind: str, values: dict[str, Any]) -> dict[str, Any]:
    found = [item for item in helm.template(values=values) if item["kind"] == kind]
    assert len(found) == 1
    return dict(found[0]["spec"]["template"]["spec"])


def _mounts(pod: dict[str, Any]) -> dict[str, str]:
    """Container path by host path."""
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    mounts = pod["containers"][0]["volumeMounts"]
    return {paths[mount["name"]]: mount["mountPath"] for mount in mounts if mount["name"] in paths}


def test_a_simulated_node_plugin_has_no_privilege(helm: Helm) -> None:
    """With source sim nothing is left of uid 0 but the ownership of its directories."""
    pod = _pod(helm, "DaemonSet", SIM)
    security = pod["containers"][0]["securityContext"]
    assert "privileged" not in security
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostIPC"} & set(pod)


def test_nvml_alone_asks_for_privilege(helm: Helm) -> None:
    """The device files of real cards need a privileged container; namespaces and the root file system stay closed."""
    pod = _pod(helm, "DaemonSet", {})
    security = pod["containers"][0]["securityContext"]
    assert security["privileged"] is True
    assert security["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostIPC"} & set(pod)


@pytest.mark.parametrize("values", [SIM, {}])
def test_the_pid_namespace_of_the_host_is_for_attribution_alone(helm: Helm, values: dict[str, Any]) -> None:
    """Who does not want it says so, and the plugin is told not to look; nothing else needs the host's namespaces."""
    pod = _pod(helm, "DaemonSet", values)
    assert pod["hostPID"] is True
    assert "--attribution" in pod["containers"][0]["args"]
    pod = _pod(helm, "DaemonSet", values | {"node": {"attribution": False}})
    assert "hostPID" not in pod
    assert "--no-attribution" in pod["containers"][0]["args"]


def test_the_grace_of_stale_claims_is_a_value(helm: Helm) -> None:
    """As long as the plugin's own default, unless somebody says otherwise; seconds too few to mean it are refused."""
    (container,) = _pod(helm, "DaemonSet", SIM)["containers"]
    assert "--stale-claim-grace=600" in container["args"]
    (container,) = _pod(helm, "DaemonSet", SIM | {"node": {"staleClaimGraceSeconds": 60}})["containers"]
    assert "--stale-claim-grace=60" in container["args"]
    with pytest.raises(HackError, match="staleClaimGraceSeconds"):
        helm.template(values=SIM | {"node": {"staleClaimGraceSeconds": 4}})


def test_host_directories_lie_at_the_same_path_in_the_pod(helm: Helm) -> None:
    """Kubelet and the runtime open what the plugin names: only the driver root, which is read, may lie elsewhere."""
    values = SIM | {"kubeletRoot": "/var/data/kubelet", "cdiDir": "/etc/cdi", "stateDir": "/opt/state"}
    mounts = _mounts(_pod(helm, "DaemonSet", values))
    assert mounts.pop("/var/lib/simgpu") == "/driver-root"
    assert mounts == {path: path for path in mounts}
    assert set(mounts) == {
        "/var/data/kubelet/plugins/gpu.hami.io",
        "/var/data/kubelet/plugins_registry",
        "/etc/cdi",
        "/opt/state",
    }


def test_the_node_plugin_is_told_what_the_values_say(helm: Helm) -> None:
    """Every value of the node reaches the command line."""
    values = SIM | {"slots": 7, "kubeletRoot": "/k", "cdiDir": "/c", "stateDir": "/s", "logLevel": "debug"}
    arguments = _pod(helm, "DaemonSet", values)["containers"][0]["args"]
    assert arguments[0] == "node"
    assert set(arguments[1:]) >= {
        "--source=sim",
        "--host-driver-root=/var/lib/simgpu",
        "--kubelet-root=/k",
        "--cdi-dir=/c",
        "--state-dir=/s",
        "--slots=7",
        "--log-level=debug",
    }


def test_device_files_may_lie_apart_from_the_libraries(helm: Helm) -> None:
    """Read-only systems keep the driver in a directory that has no `dev`: then the host's is looked at, and named."""
    pod = _pod(helm, "DaemonSet", {"driverRoot": "/usr/local/glibc", "deviceRoot": "/"})
    assert _mounts(pod)["/dev"] == "/device-root/dev"
    assert {"--device-root=/device-root", "--host-device-root=/", "--host-driver-root=/usr/local/glibc"} <= set(
        pod["containers"][0]["args"]
    )
    assert "/dev" not in _mounts(_pod(helm, "DaemonSet", {}))


def test_two_node_plugins_overlap_in_an_update(helm: Helm) -> None:
    """The new plugin is ready before the old one goes, and no port of the host stands in its way."""
    daemon_set = next(item for item in helm.template(values=SIM) if item["kind"] == "DaemonSet")
    assert daemon_set["spec"]["updateStrategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    ports = daemon_set["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert [port for port in ports if "hostPort" in port] == []


def test_the_node_plugin_is_probed_by_grpc(helm: Helm) -> None:
    """Start, readiness and life are asked of the health service, each by its own name."""
    container = _pod(helm, "DaemonSet", SIM)["containers"][0]
    assert container["startupProbe"]["grpc"] == {"port": 51515}
    assert container["readinessProbe"]["grpc"] == {"port": 51515, "service": "readiness"}
    assert container["livenessProbe"]["grpc"] == {"port": 51515, "service": "liveness"}


def test_the_controller_is_nobody(helm: Helm) -> None:
    """The controller needs nothing of its node."""
    pod = _pod(helm, "Deployment", {})
    security = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert [volume for volume in pod["volumes"] if "hostPath" in volume] == []


@pytest.mark.parametrize("kind", ["DaemonSet", "Deployment"])
def test_pods_declare_what_they_need(helm: Helm, kind: str) -> None:
    """Requests are set, so that the pods are neither first to be evicted nor unknown to the scheduler."""
    pod = _pod(helm, kind, {})
    assert set(pod["containers"][0]["resources"]["requests"]) == {"cpu", "memory"}
    assert pod["priorityClassName"].startswith("system-")


@pytest.mark.parametrize("kind", ["DaemonSet", "Deployment"])
def test_scrape_annotations_come_by_value_only(helm: Helm, kind: str) -> None:
    """Prometheus' annotations are off unless asked for, and do not displace the user's."""
    for values, expected in (
        ({}, {}),
        (
            {"metrics": {"scrapeAnnotations": True}, "node": {"podAnnotations": {"a": "b"}}},
            {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"},
        ),
    ):
        template = next(item for item in helm.template(values=values) if item["kind"] == kind)["spec"]["template"]
        annotations = template["metadata"].get("annotations", {})
        own = {"a": "b"} if kind == "DaemonSet" and expected else {}
        assert annotations == expected | own


def test_the_keeper_of_mps_daemons_comes_by_value_and_is_never_replaced_by_itself(helm: Helm) -> None:
    """Its clients die with it.  It has no account, meets the node plugin in one directory, and is privileged for real cards."""
    assert all("-mps" not in object_["metadata"]["name"] for object_ in helm.template(values={}))
    for source, privileged in (("nvml", True), ("sim", None)):
        values = {"source": source, "stateDir": "/state", "mps": {"enabled": True, "shmDir": "/dev/shm/ours"}}
        objects = helm.template(values=values)
        (keeper,) = [it for it in objects if it["kind"] == "DaemonSet" and it["metadata"]["name"] == "hami-dra-mps"]
        assert keeper["spec"]["updateStrategy"] == {"type": "OnDelete"}
        spec = keeper["spec"]["template"]["spec"]
        assert (spec["automountServiceAccountToken"], spec.get("serviceAccountName")) == (False, None)
        (container,) = spec["containers"]
        assert container["securityContext"].get("privileged") is privileged
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        paths = {volume["name"]: volume.get("hostPath", {}).get("path") for volume in spec["volumes"]}
        assert (mounts["mps"], paths["mps"]) == ("/state/mps", "/state/mps")
        assert (mounts["shm"], paths["shm"]) == ("/dev/shm", "/dev/shm/ours")
        (node,) = [it for it in objects if it["kind"] == "DaemonSet" and it["metadata"]["name"] == "hami-dra-node"]
        assert "--mps-shm-dir=/dev/shm/ours" in node["spec"]["template"]["spec"]["containers"][0]["args"]
