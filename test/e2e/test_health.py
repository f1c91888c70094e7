"""What becomes of pods when a card fails, and what the watchdog says of a program that gets round the guard."""

import pytest
from e2e.kubernetes import has
from e2e.support import GIB, HOLD, Tenant, eventually, pod

from hacklib.deployment import Site, wait_until
from hacklib.deployment.simulated import simctl
from hacklib.versions import Capability

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PAST_THE_GUARD = """
import os
import re
import sys

loader = re.search(r"(/\\S*/ld-linux\\S+)$", open("/proc/self/maps").read(), re.MULTILINE)[1]
with open(loader, "rb") as file:
    image = file.read().replace(b"/etc/ld.so.preload", b"/etc/ld.so.nothing")
with open("/tmp/loader", "wb") as file:
    file.write(image)
os.chmod("/tmp/loader", 0o755)
os.execv("/tmp/loader", ["/tmp/loader", sys.executable, "-c", {script!r}])
"""
"""Runs a script without what /etc/ld.so.preload names, by a loader that does not know the file; formatted with `script`."""


def _taints(site: Site, node: int, *, device: str) -> list[tuple[str, str, str]]:
    """Key, value and effect of a device's taints, in the slices of a node."""
    slices = [item for item in site.slices() if item["spec"].get("nodeName") == f"node-{node}"]
    devices = [found for item in slices for found in item["spec"].get("devices", []) if found["name"] == device]
    return [(taint["key"], taint["value"], taint["effect"]) for found in devices for taint in found.get("taints", [])]


@pytest.mark.older
@pytest.mark.needs(Capability.TAINTS)
def test_a_card_that_falls_off_the_bus_loses_its_pods_and_gets_new_ones_when_it_is_back(
    site: Site, tenant: Tenant
) -> None:
    """XID 79 taints the device, the pod there is evicted, another one waits, and starts when the card answers again."""
    device = site.cards(1)[0].device
    root = str(site.driver_root(1))
    tenant.kubectl.apply(tenant.template("slice", memory="1Gi"), pod("first", template="slice", node=1))
    tenant.kubectl.wait_running("first")
    simctl("inject", "--root", root, "--card", "0", "--xid", "79")
    try:
        eventually(
            lambda: ("gpu.hami.io/lost", "true", "NoExecute") in _taints(site, 1, device=device),
            what="the lost card is tainted",
            detail=lambda: _taints(site, 1, device=device),
        )
        assert ("gpu.hami.io/xid", "79", "NoExecute") in _taints(site, 1, device=device)
        eventually(
            lambda: "first" not in {item["metadata"]["name"] for item in tenant.kubectl.items("pods")},
            what="the pod is evicted",
            deadline_s=60,
        )
        tenant.kubectl.apply(pod("second", template="slice", node=1))
        eventually(
            lambda: tenant.kubectl.get("pod", "second")["status"].get("conditions"), what="the scheduler has looked"
        )
        (scheduled,) = [
            found
            for found in tenant.kubectl.get("pod", "second")["status"]["conditions"]
            if found["type"] == "PodScheduled"
        ]
        assert scheduled["status"] == "False"
    finally:
        simctl("restore", "--root", root, "--card", "0")
    eventually(lambda: not _taints(site, 1, device=device), what="the taints are gone", deadline_s=60)
    tenant.kubectl.wait_running("second")
    said = site.kubectl.within("default").events(
        about=lambda event: (
            event["involvedObject"]["name"] == "node-1" and event["reason"] in {"CardNotHealth", "CardHealth"}
        )
    )
    assert {event["reason"] for event in said} == {"CardNotHealth", "CardHealth"}


def _told(tenant: Tenant, name: str) -> list[tuple[str, str]]:
    """What kubelet says of the health of a pod's devices: health and message."""
    containers = tenant.kubectl.get("pod", name)["status"].get("containerStatuses", [])
    return [
        (device["health"], device.get("message", ""))
        for container in containers
        for resource in container.get("allocatedResourcesStatus", [])
        for device in resource["resources"]
    ]


@pytest.mark.needs(Capability.TAINTS, Capability.HEALTH)
def test_a_card_with_a_broken_row_keeps_its_pods_and_gets_no_more_until_it_is_reset(site: Site, tenant: Tenant) -> None:
    """The taint is NoSchedule, the pod that runs learns of it in its status, and the reset is noticed by the count of errors."""
    device, root = site.cards(1)[0].device, str(site.driver_root(1))
    tenant.kubectl.apply(tenant.template("slice", memory="1Gi"), pod("steady", template="slice", node=1))
    tenant.kubectl.wait_running("steady")
    explained = has(site, Capability.HEALTH_REASON)
    simctl("inject", "--root", root, "--card", "0", "--ecc", "double")
    try:
        eventually(
            lambda: _taints(site, 1, device=device) == [("gpu.hami.io/ecc", "double-bit", "NoSchedule")],
            what="the card gets no more pods",
            detail=lambda: _taints(site, 1, device=device),
        )
        eventually(
            lambda: [(health, "ECC" in said) for health, said in _told(tenant, "steady")] == [("Unhealthy", explained)],
            what="the pod's status says so",
            detail=lambda: _told(tenant, "steady"),
        )
    finally:
        simctl("inject", "--root", root, "--card", "0", "--none")
    eventually(lambda: not _taints(site, 1, device=device), what="the taint is gone")
    eventually(
        lambda: [health for health, _ in _told(tenant, "steady")] == ["Healthy"], what="the pod's status says so"
    )
    assert tenant.kubectl.get("pod", "steady")["status"]["phase"] == "Running"


def test_a_program_that_gets_round_the_guard_is_reported_on_its_pod(site: Site, tenant: Tenant) -> None:
    """It hid from the guard and not from the driver: an Event on the pod says how much it holds of how much."""
    script = PAST_THE_GUARD.format(script=HOLD.format(gib=3))
    tenant.kubectl.apply(tenant.template("slice", memory="1Gi"), pod("sly", template="slice", script=script, node=1))
    tenant.kubectl.wait_line("sly", "CUDA_SUCCESS")
    assert site.cards(1)[0].used_bytes == 3 * GIB
    said = wait_until(
        lambda: tenant.events_of("sly", reason="ShareLimitExceeded"),
        what="the watchdog's Event",
        deadline_s=60,
        detail=site.system_story,
    )
    assert {event["involvedObject"]["kind"] for event in said} >= {"Pod"}
    assert all("holds 3Gi of 1Gi" in event["message"] for event in said)
