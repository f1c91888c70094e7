"""A real API server that dies, freezes and comes back: what the fake's faults stand for."""

import pytest
from contract.api_servers import SLICES, Api, a_slice

from hacklib.cluster.cluster import Cluster
from hami_dra._lib.threads import Group
from hami_dra.api.k8s import JsonObject
from hami_dra.core.errors import ApiUnavailable
from hami_dra.kube.reflector import Collection, Reflector
from hami_dra.testing.eventually import eventually

pytestmark = pytest.mark.cluster


class Names:
    """A handler that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def added(self, obj: JsonObject) -> None:
        """Keep."""
        self.told.append(f"+{obj['metadata']['name']}")

    def modified(self, obj: JsonObject, *, old: JsonObject) -> None:
        """Keep."""
        del old
        self.told.append(f"~{obj['metadata']['name']}")

    def deleted(self, old: JsonObject) -> None:
        """Keep."""
        self.told.append(f"-{old['metadata']['name']}")


def test_a_reflector_goes_on_after_the_api_server_was_killed(real_api: Api, cluster: Cluster) -> None:
    """Nothing is told twice, nothing is lost, and it takes seconds, not minutes."""
    real_api.send("POST", SLICES, a_slice("before"))
    names = Names()
    with Group("g") as group:
        reflector = Reflector(real_api.transport, Collection(SLICES), names)
        assert reflector.start(group, name="reflector").wait(10)
        cluster.kill("kube-apiserver")
        with pytest.raises(ApiUnavailable):
            real_api.send("GET", SLICES, timeout_s=2)
        assert names.told == ["+before"]
        cluster.start("kube-apiserver")
        eventually(lambda: _answers(real_api), within_s=60)
        real_api.send("POST", SLICES, a_slice("after"))
        eventually(lambda: names.told == ["+before", "+after"], within_s=30)


def test_a_frozen_api_server_costs_a_request_no_more_than_its_time_out(real_api: Api, cluster: Cluster) -> None:
    """And afterwards the same transport works."""
    real_api.send("GET", SLICES)
    cluster.pause("kube-apiserver")
    try:
        with pytest.raises(ApiUnavailable, match="timed out"):
            real_api.send("GET", SLICES, timeout_s=1)
    finally:
        cluster.resume("kube-apiserver")
    real_api.send("GET", SLICES, timeout_s=10)


def _answers(api: Api) -> bool:
    try:
        api.send("GET", SLICES, timeout_s=2)
    except ApiUnavailable:
        return False
    return True
