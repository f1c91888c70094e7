"""What breaks on a node and around it, and what must hold all the same: one share, one file, one entry for each claim."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from e2e.steady import TICK, exactly_once, goes_on, wait_registered_again
from e2e.support import GIB, HOLD, NodeFiles, Tenant, all_run, eventually, nudged, plugin_processes, pod

from hacklib.deployment import Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def _wait_begun(tenant: Tenant, files: NodeFiles, number: int) -> None:
    wait_until(
        lambda: len(files.prepared().everything) >= number,
        what=f"{number} prepares begun",
        deadline_s=60,
        detail=lambda: (files.prepared(), tenant.kubectl.last_events(30)),
    )


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_kill_9_of_the_node_plugin_during_prepares(site: Site, tenant: Tenant) -> None:
    """Killed at random moments of three bursts, the plugin ends with each claim prepared exactly once, and then with none."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(tenant.template("slice", memory="1Gi"))
    dice = random.Random(0)  # noqa: S311 - moments, not secrets
    names: list[str] = []
    for round_number in range(3):
        done = len(files.prepared().everything)
        burst = [f"burst-{round_number}-{index}" for index in range(5)]
        tenant.kubectl.apply(*(pod(name, template="slice", node=1) for name in burst))
        names += burst
        _wait_begun(tenant, files, done + dice.randrange(1, 5))
        (process,) = plugin_processes(site, node=1)
        os.kill(process, signal.SIGKILL)
        if round_number:  # a third container in a row would have to wait for kubelet's back-off: a new pod has not
            site.system.delete("pod", site.node_plugin(1), now=True)
        wait_registered_again(site, killed=process)
        all_run(tenant, names)
    exactly_once(tenant, files)
    tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=90)
    eventually(lambda: not files.prepared().everything, what="nothing left on the node", detail=files.prepared)


def test_a_restarted_kubelet_finds_everything_again(site: Site, tenant: Tenant) -> None:
    """A kubelet that restarts registers the plugin again; the running pod notices nothing; new pods start."""
    tenant.kubectl.apply(tenant.template("share", memory="4Gi"), pod("steady", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("steady")
    before = {item["metadata"]["uid"] for item in site.slices()}
    site.cluster.restart_kubelet(1)
    goes_on(tenant, "steady")
    tenant.kubectl.apply(pod("late", template="share", node=1))
    tenant.kubectl.wait_running("late")
    exactly_once(tenant, NodeFiles(site, node=1))
    assert len(site.slices()) == len(before)


def test_a_rebooted_node_gives_a_pod_its_share_again(site: Site, tenant: Tenant) -> None:
    """After a reboot /run is empty and kubelet believes the claim prepared: the plugin writes what is missing by itself."""
    files = NodeFiles(site, node=1)
    survivor = pod("survivor", template="share", script=HOLD.format(gib=2), node=1)
    survivor["spec"]["restartPolicy"] = "Always"
    tenant.kubectl.apply(tenant.template("share", memory="4Gi"), survivor)
    tenant.kubectl.wait_line("survivor", "CUDA_SUCCESS")
    before = site.cards(1)[0].processes
    site.cluster.restart("node-1")

    def back() -> bool:
        (card,) = site.cards(1)
        return bool(card.processes) and card.processes != before

    nudged(tenant, back, what="the pod is on its card again")
    assert 2 * GIB <= site.cards(1)[0].used_bytes < 4 * GIB
    exactly_once(tenant, files)
    site.system.run("rollout", "status", "daemonset/hami-dra-node", "--timeout=60s", timeout_s=70)


def test_two_node_plugins_overlap_in_a_rolling_update(site: Site, tenant: Tenant) -> None:
    """While one plugin replaces the other, pods start, running ones go on, and no slice disappears."""
    tenant.kubectl.apply(tenant.template("slice", memory="1Gi"), pod("steady", template="slice", script=TICK, node=1))
    tenant.kubectl.wait_running("steady")
    before = {item["metadata"]["uid"] for item in site.slices()}
    site.system.run("rollout", "restart", "daemonset/hami-dra-node")
    names = [f"during-{index}" for index in range(8)]
    for name in names:
        tenant.kubectl.apply(pod(name, template="slice", node=1))
    all_run(tenant, names)
    site.system.run("rollout", "status", "daemonset/hami-dra-node", "--timeout=120s", timeout_s=130)
    tenant.kubectl.apply(pod("after", template="slice", node=1))
    all_run(tenant, ["after"])
    goes_on(tenant, "steady")
    exactly_once(tenant, NodeFiles(site, node=1))
    assert {item["metadata"]["uid"] for item in site.slices()} == before


def test_the_product_can_be_taken_away_and_come_back(site: Site, tenant: Tenant) -> None:
    """Between an uninstall and the next install a running pod keeps its share; afterwards its claim is known and can end."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(tenant.template("share", memory="4Gi"), pod("steady", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("steady")
    values = site.helm.values()
    site.helm.uninstall()
    goes_on(tenant, "steady")
    site.install(values=values)
    goes_on(tenant, "steady")
    exactly_once(tenant, files)
    tenant.kubectl.delete("pod", "steady", now=True)
    eventually(lambda: not files.prepared().everything, what="nothing left on the node", detail=files.prepared)


def test_a_read_only_cdi_directory_is_named_and_recovered_from(site: Site, tenant: Tenant) -> None:
    """A CDI directory that cannot be written fails the prepare in words; as soon as it can be, the pod starts."""
    files = NodeFiles(site, node=1)
    files.cdi_dir.chmod(0o555)  # the plugin has no capability to write it all the same
    try:
        tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("stuck", template="share", node=1))
        events = wait_until(lambda: tenant.events_of("stuck", reason="PrepareFailed"), what="Event PrepareFailed")
        assert "/var/run/cdi" in events[-1]["message"]
        assert not files.prepared().specs
    finally:
        files.cdi_dir.chmod(0o755)
    all_run(tenant, ["stuck"])
    exactly_once(tenant, files)


def test_a_full_disk_under_the_ledger_is_named_and_recovered_from(site: Site, tenant: Tenant) -> None:
    """A ledger without room fails the prepare in words; with room again the pod starts."""
    files = NodeFiles(site, node=2)
    filler = files.state_dir / "filler"
    try:
        _fill(filler)
        tenant.kubectl.apply(tenant.template("share", memory="1Gi"), pod("stuck", template="share", node=2))
        events = wait_until(lambda: tenant.events_of("stuck", reason="PrepareFailed"), what="Event PrepareFailed")
        assert "disk is full" in events[-1]["message"] or "No space left" in events[-1]["message"]
    finally:
        filler.unlink()
    all_run(tenant, ["stuck"])
    exactly_once(tenant, files)


def test_without_the_api_server_pods_go_on_and_end(site: Site, tenant: Tenant) -> None:
    """While the API server is away a running pod is unharmed and an ended one is unprepared; afterwards new pods start."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(
        tenant.template("share", memory="4Gi"),
        pod("steady", template="share", script=TICK, node=1),
        pod("leaving", template="share", script=HOLD.format(gib=2), node=1),
    )
    all_run(tenant, ["steady", "leaving"])
    leaving = tenant.claim_of("leaving")["metadata"]["uid"]
    tenant.kubectl.run("delete", "pod", "leaving", "--grace-period=3", "--wait=false")
    site.cluster.kill("kube-apiserver")
    try:
        eventually(lambda: leaving not in files.prepared().everything, what="the ended pod's claim unprepared")
        goes_on(tenant, "steady")
        assert len(plugin_processes(site, node=1)) == 1
    finally:
        site.cluster.start("kube-apiserver")
    wait_until(lambda: site.kubectl.run("get", "--raw", "/readyz"), what="the API server")
    tenant.kubectl.apply(pod("late", template="share", node=1))
    all_run(tenant, ["steady", "late"])
