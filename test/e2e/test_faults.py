"""What breaks on a node and around it, and what must hold all the same: one share, one file, one entry for each claim."""

import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from e2e.support import GIB, HOLD, NodeFiles, Tenant, all_run, eventually, nudged, plugin_processes, pod, share_template

from hacklib.deployment import Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TICK = """
from cuda.bindings import driver as cuda
import itertools
import time

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
for number in itertools.count(1):
    error, pointer = cuda.cuMemAlloc(1 << 30)
    print(f"tick {number}: {error.name}", flush=True)
    cuda.cuMemFree(pointer)
    time.sleep(0.2)
"""


def _uids(tenant: Tenant) -> set[str]:
    return {claim["metadata"]["uid"] for claim in tenant.claims()}


def _exactly_once(tenant: Tenant, files: NodeFiles) -> None:
    """Each claim of the tenant has one share, one CDI file and one completed entry, and nobody else has anything."""

    def once() -> bool:
        prepared = files.prepared()
        uids = _uids(tenant)
        return (
            prepared.shares == dict.fromkeys(uids, 1)
            and prepared.specs == uids
            and prepared.ledger == dict.fromkeys(uids, "Completed")
        )

    eventually(once, what="each claim exactly once", detail=lambda: (_uids(tenant), files.prepared()))


def _tick(tenant: Tenant, name: str) -> int:
    """The last tick of a pod, which must all have gone well; read on its node, for when the API server is away."""
    folder = tenant.site.cluster.spec.node(1).folder / "var-log" / "pods"
    (log,) = folder.glob(f"{tenant.kubectl.namespace}_{name}_*/main/0.log")
    words = [line.split() for line in log.read_text(encoding="utf-8").splitlines() if " tick " in line]
    assert {word[-1] for word in words} <= {"CUDA_SUCCESS"}
    return int(words[-1][-2].rstrip(":")) if words else 0


def _goes_on(tenant: Tenant, name: str) -> None:
    before = _tick(tenant, name)
    eventually(lambda: _tick(tenant, name) > before + 2, what=f"{name} goes on")


def _wait_begun(files: NodeFiles, number: int) -> None:
    wait_until(
        lambda: len(files.prepared().everything) >= number,
        what=f"{number} prepares begun",
        deadline_s=60,
        detail=files.prepared,
    )


def _wait_registered_again(site: Site, *, killed: int) -> None:
    wait_until(
        lambda: set(plugin_processes(site, node=1)) - {killed}, what="another process of the plugin", deadline_s=60
    )
    wait_until(
        lambda: any("registered with kubelet" in line for line in site.system.logs(site.node_plugin(1))),
        what="the plugin registered",
    )


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_kill_9_of_the_node_plugin_during_prepares(site: Site, tenant: Tenant) -> None:
    """Killed at random moments of three bursts, the plugin ends with each claim prepared exactly once, and then with none."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(share_template("slice", memory="1Gi"))
    dice = random.Random(0)  # noqa: S311 - moments, not secrets
    names: list[str] = []
    for round_number in range(3):
        done = len(files.prepared().everything)
        burst = [f"burst-{round_number}-{index}" for index in range(5)]
        tenant.kubectl.apply(*(pod(name, template="slice", node=1) for name in burst))
        names += burst
        _wait_begun(files, done + dice.randrange(1, 5))
        (process,) = plugin_processes(site, node=1)
        os.kill(process, signal.SIGKILL)
        if round_number:  # a third container in a row would have to wait for kubelet's back-off: a new pod has not
            site.system.delete("pod", site.node_plugin(1), now=True)
        _wait_registered_again(site, killed=process)
        all_run(tenant, names)
    _exactly_once(tenant, files)
    tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=90)
    eventually(lambda: not files.prepared().everything, what="nothing left on the node", detail=files.prepared)


def test_a_restarted_kubelet_finds_everything_again(site: Site, tenant: Tenant) -> None:
    """A kubelet that restarts registers the plugin again; the running pod notices nothing; new pods start."""
    tenant.kubectl.apply(share_template("share", memory="4Gi"), pod("steady", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("steady")
    before = {item["metadata"]["uid"] for item in site.slices()}
    site.cluster.restart_kubelet(1)
    _goes_on(tenant, "steady")
    tenant.kubectl.apply(pod("late", template="share", node=1))
    tenant.kubectl.wait_running("late")
    _exactly_once(tenant, NodeFiles(site, node=1))
    assert len(site.slices()) == len(before)


def test_a_rebooted_node_gives_a_pod_its_share_again(site: Site, tenant: Tenant) -> None:
    """After a reboot /run is empty and kubelet believes the claim prepared: the plugin writes what is missing by itself."""
    files = NodeFiles(site, node=1)
    survivor = pod("survivor", template="share", script=HOLD.format(gib=2), node=1)
    survivor["spec"]["restartPolicy"] = "Always"
    tenant.kubectl.apply(share_template("share", memory="4Gi"), survivor)
    tenant.kubectl.wait_line("survivor", "CUDA_SUCCESS")
    before = site.cards(1)[0].processes
    site.cluster.restart("node-1")

    def back() -> bool:
        (card,) = site.cards(1)
        return bool(card.processes) and card.processes != before

    nudged(tenant, back, what="the pod is on its card again")
    assert 2 * GIB <= site.cards(1)[0].used_bytes < 4 * GIB
    _exactly_once(tenant, files)
    site.system.run("rollout", "status", "daemonset/hami-dra-node", "--timeout=60s", timeout_s=70)


def test_two_node_plugins_overlap_in_a_rolling_update(site: Site, tenant: Tenant) -> None:
    """While one plugin replaces the other, pods start, running ones go on, and no slice disappears."""
    tenant.kubectl.apply(share_template("slice", memory="1Gi"), pod("steady", template="slice", script=TICK, node=1))
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
    _goes_on(tenant, "steady")
    _exactly_once(tenant, NodeFiles(site, node=1))
    assert {item["metadata"]["uid"] for item in site.slices()} == before


def test_the_product_can_be_taken_away_and_come_back(site: Site, tenant: Tenant) -> None:
    """Between an uninstall and the next install a running pod keeps its share; afterwards its claim is known and can end."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(share_template("share", memory="4Gi"), pod("steady", template="share", script=TICK, node=1))
    tenant.kubectl.wait_running("steady")
    values = site.helm.values()
    site.helm.uninstall()
    _goes_on(tenant, "steady")
    site.install(values=values)
    _goes_on(tenant, "steady")
    _exactly_once(tenant, files)
    tenant.kubectl.delete("pod", "steady", now=True)
    eventually(lambda: not files.prepared().everything, what="nothing left on the node", detail=files.prepared)


def test_a_read_only_cdi_directory_is_named_and_recovered_from(site: Site, tenant: Tenant) -> None:
    """A CDI directory that cannot be written fails the prepare in words; as soon as it can be, the pod starts."""
    files = NodeFiles(site, node=1)
    files.cdi_dir.chmod(0o555)  # the plugin has no capability to write it all the same
    try:
        tenant.kubectl.apply(share_template("share", memory="1Gi"), pod("stuck", template="share", node=1))
        events = wait_until(lambda: tenant.events_of("stuck", reason="PrepareFailed"), what="Event PrepareFailed")
        assert "/var/run/cdi" in events[-1]["message"]
        assert not files.prepared().specs
    finally:
        files.cdi_dir.chmod(0o755)
    all_run(tenant, ["stuck"])
    _exactly_once(tenant, files)


def test_a_full_disk_under_the_ledger_is_named_and_recovered_from(site: Site, tenant: Tenant) -> None:
    """A ledger without room fails the prepare in words; with room again the pod starts."""
    files = NodeFiles(site, node=2)
    filler = files.state_dir / "filler"
    try:
        _fill(filler)
        tenant.kubectl.apply(share_template("share", memory="1Gi"), pod("stuck", template="share", node=2))
        events = wait_until(lambda: tenant.events_of("stuck", reason="PrepareFailed"), what="Event PrepareFailed")
        assert "disk is full" in events[-1]["message"] or "No space left" in events[-1]["message"]
    finally:
        filler.unlink()
    all_run(tenant, ["stuck"])
    _exactly_once(tenant, files)


def test_without_the_api_server_pods_go_on_and_end(site: Site, tenant: Tenant) -> None:
    """While the API server is away a running pod is unharmed and an ended one is unprepared; afterwards new pods start."""
    files = NodeFiles(site, node=1)
    tenant.kubectl.apply(
        share_template("share", memory="4Gi"),
        pod("steady", template="share", script=TICK, node=1),
        pod("leaving", template="share", script=HOLD.format(gib=2), node=1),
    )
    all_run(tenant, ["steady", "leaving"])
    leaving = tenant.claim_of("leaving")["metadata"]["uid"]
    tenant.kubectl.run("delete", "pod", "leaving", "--grace-period=3", "--wait=false")
    site.cluster.kill("kube-apiserver")
    try:
        eventually(lambda: leaving not in files.prepared().everything, what="the ended pod's claim unprepared")
        _goes_on(tenant, "steady")
        assert len(plugin_processes(site, node=1)) == 1
    finally:
        site.cluster.start("kube-apiserver")
    wait_until(lambda: site.kubectl.run("get", "--raw", "/readyz"), what="the API server")
    tenant.kubectl.apply(pod("late", template="share", node=1))
    all_run(tenant, ["steady", "late"])
