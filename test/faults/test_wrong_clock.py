"""A node plugin that starts with a wrong wall clock, as on a node without a battery before it hears of the time."""

import json
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from e2e.steady import TICK, goes_on, wait_registered_again
from e2e.support import NodeFiles, Tenant, nudged, plugin_processes, pod
from faults.clock import DAY_S, DECADE_S, HOUR_S, PluginClock

from hacklib.deployment import Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def _start_again(site: Site) -> None:
    (process,) = plugin_processes(site, node=1)
    os.kill(process, signal.SIGKILL)
    wait_registered_again(site, killed=process)


def _log(site: Site) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in site.system.logs(site.node_plugin(1)) if line.startswith("{")]


def _off_by_s(line: Mapping[str, Any]) -> float:
    return (datetime.fromisoformat(line["time"]) - datetime.now(tz=UTC)).total_seconds()


@pytest.mark.parametrize("offset_s", [-DAY_S, DECADE_S], ids=["a day behind", "ten years ahead"])
def test_a_wrong_clock_at_the_start_harms_no_pod(site: Site, offset_s: int) -> None:
    """While the API server's certificate is not valid, pods go on and give shares back; new ones run when the time is right."""
    clock, files = PluginClock(site), NodeFiles(site, node=1)
    with Tenant.of(site, name="wrong clock") as tenant:
        tenant.kubectl.apply(
            tenant.template("share", memory="2Gi"),
            pod("steady", template="share", script=TICK),
            pod("leaves", template="share"),
        )
        for name in ("steady", "leaves"):
            tenant.kubectl.wait_running(name)
        steady, leaves = (tenant.claim_of(name)["metadata"]["uid"] for name in ("steady", "leaves"))
        clock.jump(offset_s)
        _start_again(site)
        clock.wait_heard()
        wait_until(
            lambda: any("set the clock, or renew the certificate" in str(line) for line in _log(site)),
            what="a certificate that is refused",
            detail=site.system_story,
        )
        assert all(abs(_off_by_s(line) - offset_s) < HOUR_S for line in _log(site))
        tenant.kubectl.delete("pod", "leaves", now=True)
        wait_until(lambda: leaves not in files.prepared().everything, what="the share given back")
        tenant.kubectl.apply(pod("comes", template="share"))
        goes_on(tenant, "steady")
        clock.jump(0)
        nudged(tenant, lambda: bool(tenant.kubectl.wait_running("comes", deadline_s=4)), what="the new pod runs")
        goes_on(tenant, "steady")
        prepared = files.prepared()
        for uid in (steady, tenant.claim_of("comes")["metadata"]["uid"]):
            assert (prepared.shares[uid], prepared.ledger[uid], uid in prepared.specs) == (1, "Completed", True)
