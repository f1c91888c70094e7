"""The plugin put together: real sockets, real files, the fake kubelet on one side and the fake API server on the other."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from node_rig import ClaimStore, Rig, ref
from prometheus_client import CollectorRegistry

from hami_dra._gen import grpc_health_v1_pb2
from hami_dra._lib.threads import Group
from hami_dra.core.errors import HamiDraError
from hami_dra.node.endpoint import SUPPORTED_VERSIONS, dra_handlers
from hami_dra.node.health import LIVENESS, HealthServer
from hami_dra.node.metrics import NodeMetrics
from hami_dra.node.registrar import Registrar
from hami_dra.node.service import ClaimService
from hami_dra.node.sockets import DeadSockets, SocketPaths, socket_paths
from hami_dra.node.state import ClaimRef, Prepared
from hami_dra.testing.clock import FakeClock
from hami_dra.testing.eventually import eventually
from hami_dra.testing.gpus import allocated_claim, share_result
from hami_dra.testing.kubelet import FakeKubelet, Plugin, PluginError, PreparedClaim

SERVING = grpc_health_v1_pb2.HealthCheckResponse.SERVING
NOT_SERVING = grpc_health_v1_pb2.HealthCheckResponse.NOT_SERVING


@dataclass
class Listener:
    """Remembers what it heard."""

    heard: list[tuple[str, str]] = field(default_factory=list)

    def prepared(self, prepared: Prepared) -> None:
        """Note it."""
        self.heard.append(("prepared", prepared.plan.name))

    def failed(self, ref: ClaimRef, error: HamiDraError) -> None:
        """Note it."""
        self.heard.append((error.reason, ref.name))

    def unprepared(self, ref: ClaimRef) -> None:
        """Note it."""
        self.heard.append(("unprepared", ref.name))


class Node:
    """A plugin that listens, and a kubelet beside it."""

    def __init__(
        self,
        directory: Path,
        *,
        pod_uid: str = "7f0c4a53-0000-4000-8000-000000000001",
        claims: ClaimStore | None = None,
    ) -> None:
        self.group = Group("plugin")
        self.rig = Rig(directory, claims=claims or ClaimStore())
        self.listener = Listener()
        self.registry = CollectorRegistry()
        self.metrics = NodeMetrics(self.registry)
        self.service = ClaimService(state=self.rig.state, listener=self.listener, metrics=self.metrics)
        self.paths = socket_paths(plugin_dir=directory / "p", registry_dir=directory / "r", pod_uid=pod_uid)
        self.registrar = Registrar(
            paths=self.paths,
            handlers=dra_handlers(self.service),
            versions=SUPPORTED_VERSIONS,
            group=self.group,
            check_s=0.02,
        )
        self.registrar.start()

    @property
    def claims(self) -> ClaimStore:
        """What the API server holds."""
        return self.rig.claims

    def watch_sockets(self) -> None:
        """Keep the sockets there."""
        self.group.spawn("sockets", self.registrar.run)

    def close(self) -> None:
        """Stop everything."""
        self.group.stop()
        self.registrar.stop()
        self.group.join(10.0)
        self.service.close()
        self.rig.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A listening plugin."""
    node = Node(tmp_path)
    yield node
    node.close()


def registered(node: Node, **kwargs: Any) -> Plugin:
    """The plugin as a kubelet has registered it."""
    kubelet = FakeKubelet(node.paths.registration.parent, **kwargs)
    (plugin,) = kubelet.scan()
    assert not kubelet.refused
    return plugin


def test_kubelet_registers_the_plugin_with_its_newest_version(node: Node) -> None:
    """A kubelet that knows v1 takes it, and the plugin knows that it is registered."""
    plugin = registered(node)
    assert (plugin.name, plugin.service) == ("gpu.hami.io", "v1.DRAPlugin")
    assert node.registrar.registered


def test_a_claim_goes_all_the_way(node: Node) -> None:
    """Prepare answers with request, pool, device, CDI name and share id; unprepare removes all of it."""
    plugin = registered(node)
    train = node.claims.add(allocated_claim())
    answer = plugin.prepare([train])[train.uid]
    assert isinstance(answer, PreparedClaim)
    (device,) = answer.devices
    assert list(device.request_names) == ["gpu"]
    assert device.share_id == "6b0f2a6e-0000-4000-8000-000000000001"
    assert (device.pool_name, device.device_name) == ("node-1/gpu", "gpu-0000-17-00-0")
    assert answer.cdi_ids == [f"gpu.hami.io/claim=train-uid-gpu-0000-17-00-0-{device.share_id}"]
    assert plugin.unprepare([train]) == {train.uid: ""}
    assert node.rig.facts().ledger == {}
    assert node.listener.heard == [("prepared", "train"), ("unprepared", "train")]


def test_a_kubelet_that_only_knows_v1beta1(node: Node) -> None:
    """The older service answers the same, without a share id."""
    plugin = registered(node, versions=["v1beta1.DRAPlugin"])
    assert plugin.service == "v1beta1.DRAPlugin"
    train = node.claims.add(allocated_claim())
    answer = plugin.prepare([train])[train.uid]
    assert isinstance(answer, PreparedClaim)
    assert len(answer.cdi_ids) == 1
    assert not hasattr(answer.devices[0], "share_id")
    assert plugin.unprepare([train]) == {train.uid: ""}


def test_a_whole_card_has_no_share_id(node: Node) -> None:
    """Where the allocation has no shareID, the answer has none either."""
    plugin = registered(node)
    whole = node.claims.add(allocated_claim("whole", share_result(share_id="")))
    answer = plugin.prepare([whole])[whole.uid]
    assert isinstance(answer, PreparedClaim)
    assert not answer.devices[0].HasField("share_id")


def test_every_claim_of_a_call_gets_an_answer(node: Node) -> None:
    """One bad claim among several fails alone, with a reason; the call itself succeeds."""
    plugin = registered(node)
    good = [
        node.claims.add(
            allocated_claim(name, share_result(share_id=f"6b0f2a6e-0000-4000-8000-00000000000{i}", memory_gib=8))
        )
        for i, name in enumerate(["a", "b", "c"])
    ]
    gone = ref(allocated_claim("gone"))
    answers = plugin.prepare([*good, gone])
    assert answers[gone.uid] == "claim ml/gone was deleted (ClaimChanged)"
    assert all(isinstance(answers[claim.uid], PreparedClaim) for claim in good)
    assert ("ClaimChanged", "gone") in node.listener.heard
    value = node.registry.get_sample_value("hami_dra_prepare_failures_total", {"reason": "ClaimChanged"})
    assert value == 1
    assert plugin.unprepare([*good, gone]) == {claim.uid: "" for claim in [*good, gone]}


def test_an_empty_call_has_an_empty_answer(node: Node) -> None:
    """Health checks ask for nothing and get it."""
    assert registered(node).prepare([]) == {}


def test_kubelet_may_register_again_at_any_time(node: Node) -> None:
    """A kubelet that restarts walks its directory and asks again."""
    kubelet = FakeKubelet(node.paths.registration.parent)
    assert len(kubelet.scan()) == 1
    kubelet.restart()
    assert len(kubelet.scan()) == 1


def test_sockets_come_back_after_kubelets_directory_was_wiped(node: Node) -> None:
    """`kubeadm reset` removes the directories under a running plugin, which listens anew and is registered again."""
    kubelet = FakeKubelet(node.paths.registration.parent)
    kubelet.scan()
    node.watch_sockets()
    for path in (node.paths.registration, node.paths.plugin):
        path.unlink()
        path.parent.rmdir() if not any(path.parent.iterdir()) else None
    eventually(lambda: node.paths.registration.exists() and node.paths.plugin.exists())
    kubelet.restart()
    eventually(lambda: len(kubelet.scan()) == 1)
    train = node.claims.add(allocated_claim())
    (plugin,) = kubelet.plugins.values()
    assert isinstance(plugin.prepare([train])[train.uid], PreparedClaim)


def test_two_instances_serve_one_node(node: Node, tmp_path: Path) -> None:
    """During a rolling update kubelet knows both, and what one prepared the other unprepares."""
    second = Node(tmp_path, pod_uid="7f0c4a53-0000-4000-8000-000000000002", claims=node.claims)
    kubelet = FakeKubelet(node.paths.registration.parent)
    old, new = kubelet.scan()
    train = node.claims.add(allocated_claim())
    assert isinstance(old.prepare([train])[train.uid], PreparedClaim)
    assert new.unprepare([train]) == {train.uid: ""}
    assert node.rig.facts().ledger == {}
    second.close()
    assert len(kubelet.scan()) == 1


def test_a_stopped_plugin_leaves_no_socket(tmp_path: Path) -> None:
    """Kubelet deregisters a plugin whose registration socket is gone."""
    node = Node(tmp_path)
    node.close()
    assert not node.paths.registration.exists()
    assert not node.paths.plugin.exists()


def test_sockets_of_dead_instances_are_removed(node: Node) -> None:
    """A killed plugin leaves its socket files, and kubelet would dial them for ever; the living are left alone.

    One that is dead at one look may be about to listen, or have been made anew: only the second look removes it.
    """
    import socket  # noqa: PLC0415 - for one call

    dead = node.paths.registration.with_name("gpu.hami.io-dead-reg.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    other = SocketPaths(
        plugin=node.paths.plugin.with_name("x.sock"), registration=node.paths.registration.with_name("x")
    )
    clock = FakeClock()
    sockets = DeadSockets(other, clock=clock)
    assert sockets.remove() == []
    clock.advance(9.0)
    assert sockets.remove() == []
    clock.advance(1.0)
    assert sockets.remove() == [dead]
    assert node.paths.registration.exists()


def test_socket_names_fit_their_limit() -> None:
    """Long directories get hashed names, and one that no name fits is refused with the reason."""
    uid = "7f0c4a53-0000-4000-8000-000000000001"
    plain = socket_paths(plugin_dir=Path("/p"), registry_dir=Path("/r"), pod_uid=uid)
    assert plain.registration.name == f"gpu.hami.io-{uid}-reg.sock"
    assert plain.plugin.name == f"dra-{uid}.sock"
    deep = Path("/" + "d" * 62)
    tight = socket_paths(plugin_dir=deep, registry_dir=deep, pod_uid=uid)
    assert tight.registration.name != plain.registration.name
    assert tight.registration.name.startswith("gpu.hami.io-")
    with pytest.raises(HamiDraError, match="use a shorter directory"):
        socket_paths(plugin_dir=Path("/" + "d" * 100), registry_dir=deep, pod_uid=uid)
    assert socket_paths(plugin_dir=Path("/p"), registry_dir=Path("/r"), pod_uid="").plugin.name == "dra.sock"


def check(port: int, service: str = "") -> int:
    """What the health service says."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            grpc_health_v1_pb2.HealthCheckRequest.SerializeToString,
            grpc_health_v1_pb2.HealthCheckResponse.FromString,
        )
        return cast("int", call(grpc_health_v1_pb2.HealthCheckRequest(service=service), timeout=5.0).status)


def test_health_tells_liveness_from_readiness(node: Node) -> None:
    """Alive while the sockets answer; ready only when published and registered; dead when a socket is lost."""
    ready: list[bool] = []
    health = HealthServer(address="127.0.0.1:0", paths=node.paths, ready=lambda: bool(ready))
    port = health.start()
    assert (check(port), check(port, LIVENESS)) == (NOT_SERVING, SERVING)
    ready += [True]
    assert check(port) == SERVING
    with pytest.raises(grpc.RpcError, match="unknown service"):
        check(port, "other")
    node.paths.plugin.unlink()
    assert (check(port), check(port, LIVENESS)) == (NOT_SERVING, NOT_SERVING)
    health.stop()


def test_the_fake_kubelet_refuses_what_kubelet_refuses(node: Node, tmp_path: Path) -> None:
    """A socket on which nobody answers, a plugin whose versions it does not know, and answers for other claims."""
    kubelet = FakeKubelet(node.paths.registration.parent, versions=["v2.DRAPlugin"])
    assert kubelet.scan() == []
    assert "is supported" in kubelet.refused[node.paths.registration]
    assert not node.registrar.registered
    with pytest.raises(PluginError):
        FakeKubelet(tmp_path)._accept(tmp_path, cast("Any", type("Info", (), {"type": "CSIPlugin", "name": ""})()))
