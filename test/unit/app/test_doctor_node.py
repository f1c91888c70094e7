"""`hami-dra doctor --node` beside a node plugin with a card of AMD in a directory."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from hami_dra._lib.threads import Group
from hami_dra.app.doctor_node import examine_node
from hami_dra.app.http import serve_http
from hami_dra.app.node import NodeOptions
from hami_dra.core.doctor import CHECKS, Finding, Level
from hami_dra.testing.apiserver import FakeApiServer
from hami_dra.testing.eventually import eventually
from hami_dra.testing.kubelet import FakeKubelet


class Probe:
    """What the node plugin's page says of its readiness."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ready = True


@pytest.fixture
def probe() -> Iterator[Probe]:
    """A page of its own: the node plugin of the tests has a port that nobody knows."""
    with Group("probe") as group:
        probe = Probe(0)
        probe.port = serve_http(group, port=0, registry=CollectorRegistry(), ready=lambda: probe.ready)
        yield probe


def look(options: NodeOptions) -> dict[str, Finding]:
    """The worst finding of each check."""
    order = list(Level)
    findings = examine_node(options, pid=os.getpid())
    return {each.check: each for each in sorted(findings, key=lambda each: order.index(each.level))}


def test_a_node_plugin_at_work_is_found_well(server: FakeApiServer, options: NodeOptions, probe: Probe) -> None:
    """Driver, card, sockets, directories: everything of the node is looked at, and nothing is changed."""
    FakeKubelet(options.kubelet_root / "plugins_registry").scan()
    before = sorted(options.state_dir.rglob("*"))
    found = look(replace(options, metrics_port=probe.port, attribution=False))
    assert set(found) == set(list(CHECKS)[13:])
    odd = {check: each.found for check, each in found.items() if each.level is not Level.OK}
    assert odd == {"kernel": "no dmem controller for gpu-0000-17-00-0: given whole"}
    assert found["cards"].found.startswith("gpu-0000-17-00-0: AMD Instinct MI210")
    assert sorted(options.state_dir.rglob("*")) == before
    probe.ready = False
    assert look(replace(options, metrics_port=probe.port))["sockets"].level is Level.PROBLEM
    assert look(replace(options, metrics_port=1))["sockets"].level is Level.WARNING
    assert server.objects("ResourceSlice")


def test_what_is_broken_on_a_node_is_found(server: FakeApiServer, options: NodeOptions) -> None:
    """A wiped state directory, CDI directory and driver root are problems in words; nothing raises."""
    eventually(lambda: server.objects("ResourceSlice"))
    for path in (options.cdi_dir, options.driver_root, options.state_dir / "guard"):
        shutil.rmtree(path)
    found = look(replace(options, pod_uid="another"))
    for check in ("driver", "sockets", "cdi", "guard"):
        assert found[check].level is Level.PROBLEM, found[check]
    options.guard.unlink()
    shutil.rmtree(options.state_dir)
    found = look(options)
    assert found["guard"].found.startswith("cannot read the guard")
    assert found["ledger"].level is Level.PROBLEM
