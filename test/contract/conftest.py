"""Contract tests run the same assertions on a fake and on the real thing.

`cluster` is a real Kubernetes of the newest supported version, `closed_cluster` one of 1.34 with its default gates; each
starts once, when the first test asks for it.  `api` is a fake API server and a real one in turn.
"""

import warnings
from collections.abc import Iterator
from typing import cast

import pytest
from contract.api_servers import SLICES, Api

from hacklib.cluster.cluster import Cluster
from hami_dra.core.errors import KubeError
from hami_dra.kube.client import ClusterTransport, kubeconfig
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.eventually import eventually


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster of one node; whoever talks to its API server from this process does it within `network()`."""
    yield from _up(name="contract", kubernetes="1.36")


@pytest.fixture(scope="session")
def closed_cluster() -> Iterator[Cluster]:
    """The oldest supported Kubernetes with its default gates: consumable capacity is off."""
    yield from _up(name="contract-old", kubernetes="1.34")


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """A fake API server, and a real one, each with a namespace of this test's own."""
    if request.param == "fake":
        yield _fake(FakeApiServer())
    else:
        yield from _real(cast("Cluster", request.getfixturevalue("cluster")))


@pytest.fixture
def real_api(cluster: Cluster) -> Iterator[Api]:
    """The real one only."""
    yield from _real(cluster)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
def closed_api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """As `api`, with consumable capacity, partitions and taints switched off."""
    if request.param == "fake":
        gates = dict.fromkeys(("DRAConsumableCapacity", "DRAPartitionableDevices", "DRADeviceTaints"), False)
        yield _fake(FakeApiServer(gates=gates, version="v1.34.4"))
    else:
        yield from _real(cast("Cluster", request.getfixturevalue("closed_cluster")))


def _up(*, name: str, kubernetes: str) -> Iterator[Cluster]:
    with warnings.catch_warnings():
        # The keeper of a cluster outlives the Popen object that started it.
        warnings.filterwarnings("ignore", message=r"subprocess \d+ is still running", category=ResourceWarning)
        running = Cluster.up(name=name, nodes=1, kubernetes=kubernetes)
    with running:
        yield running


def _fake(server: FakeApiServer) -> Api:
    return Api(server, "contract", server.compact)


def _ready(transport: ClusterTransport) -> bool:
    try:
        with transport.stream("/readyz", query={}, timeout_s=5) as lines:
            return list(lines) == [b"ok"]
    except KubeError:
        return False


def _real(running: Cluster) -> Iterator[Api]:
    with running.network():
        transport = ClusterTransport(kubeconfig(running.kubeconfig))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": "contract-"}}
        name = transport.request("POST", "/api/v1/namespaces", body=namespace).body["metadata"]["name"]

        def forget_history() -> None:
            running.kill("kube-apiserver")
            running.start("kube-apiserver")
            eventually(lambda: _ready(transport), within_s=60)

        yield Api(transport, name, forget_history, last_words_s=6)
        for item in transport.request("GET", SLICES).body["items"]:
            transport.request("DELETE", f"{SLICES}/{item['metadata']['name']}")
        transport.request("DELETE", f"/api/v1/namespaces/{name}")
