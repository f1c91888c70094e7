"""What people run: Jobs, Deployments, claims that many pods use, cards that are chosen, `nvidia.com/gpu: 1` without a claim."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
from e2e.kubernetes import has
from e2e.support import GIB, HOLD, PAUSE, NodeFiles, Tenant, all_run, eventually, pod, pod_with

from hacklib.deployment import KubeObject, Site, wait_until
from hacklib.versions import Capability
from hami_dra.api.names import DRIVER

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TAKE = """
from cuda.bindings import driver as cuda

cuda.cuInit(0)
cuda.cuCtxSetCurrent(cuda.cuDevicePrimaryCtxRetain(cuda.cuDeviceGet(0)[1])[1])
print(cuda.cuMemAlloc(1 << 30)[0].name, flush=True)
"""
SEES = """
from cuda.bindings import driver as cuda

cuda.cuInit(0)
devices = [cuda.cuDeviceGet(index)[1] for index in range(cuda.cuDeviceGetCount()[1])]
print("sees", *(cuda.cuDeviceTotalMem(device)[1] >> 20 for device in devices), flush=True)
"""
LEGACY = "nvidia.com/gpu"


def _allocated(tenant: Tenant) -> list[tuple[str, str, str]]:
    """Pool, device and share of everything that the tenant's claims were given."""
    results = [
        result
        for claim in tenant.claims()
        for result in claim.get("status", {}).get("allocation", {}).get("devices", {}).get("results", [])
    ]
    return sorted((result["pool"], result["device"], result.get("shareID", "")) for result in results)


def _workload(kind: str, name: str, *, pod_template: KubeObject, **spec: object) -> KubeObject:
    """A Job or a Deployment of such pods."""
    labels = {"app": name}
    version = "batch/v1" if kind == "Job" else "apps/v1"
    template = {"metadata": {"labels": labels}, "spec": pod_template["spec"]}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": {"template": template, **spec}}


def _claim(name: str, template: KubeObject) -> KubeObject:
    """A claim of its own, as one that is made from the template would be."""
    spec = template["spec"]["spec"]
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec}


def _choosing(template: KubeObject, expression: str) -> KubeObject:
    """The template with a CEL selector."""
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    request["exactly"]["selectors"] = [{"cel": {"expression": expression}}]
    return template


def _nothing_left(tenant: Tenant) -> None:
    """Wait until neither the namespace nor a node has anything of the tenant's claims."""
    files = [NodeFiles(tenant.site, node=node) for node in (1, 2)]
    eventually(
        lambda: not tenant.claims() and not any(found.prepared().everything for found in files),
        what="nothing left of the claims",
        deadline_s=60,
        detail=lambda: (tenant.claims(), [found.prepared() for found in files]),
    )


def test_a_job_runs_to_its_end(tenant: Tenant) -> None:
    """Four pods, two at a time, have a share each; when the Job is done the shares are free, though its pods are still there."""
    runner = pod("runner", template="share", script=TAKE)
    tenant.kubectl.apply(
        tenant.template("share", memory="2Gi"),
        _workload("Job", "job", pod_template=runner, parallelism=2, completions=4),
    )
    wait_until(
        lambda: tenant.kubectl.get("job", "job")["status"].get("succeeded") == 4,
        what="the Job complete",
        deadline_s=120,
        detail=lambda: "\n".join(tenant.kubectl.last_events()),
    )
    assert len(tenant.kubectl.items("pods")) == 4
    _nothing_left(tenant)


def test_replicas_of_a_deployment_have_a_share_each(tenant: Tenant) -> None:
    """Two replicas hold two shares; a rollout gives the new ones others, and what the old ones had is free again."""
    holder = pod("replica", template="share", script=HOLD.format(gib=1))
    holder["spec"]["restartPolicy"] = "Always"
    selector = {"matchLabels": {"app": "replica"}}
    tenant.kubectl.apply(
        tenant.template("share", memory="2Gi"),
        _workload("Deployment", "replica", pod_template=holder, replicas=2, selector=selector),
    )
    tenant.kubectl.run("rollout", "status", "deployment/replica", "--timeout=90s", timeout_s=100)
    before = _allocated(tenant)
    assert len(set(before)) == 2
    tenant.kubectl.run("rollout", "restart", "deployment/replica")
    tenant.kubectl.run("rollout", "status", "deployment/replica", "--timeout=90s", timeout_s=100)
    eventually(
        lambda: len(_allocated(tenant)) == 2, what="two shares", deadline_s=60, detail=lambda: _allocated(tenant)
    )
    assert len(set(_allocated(tenant))) == 2
    used = [card.used_bytes for node in (1, 2) for card in tenant.site.cards(node)]
    assert 2 * GIB <= sum(used) < 4 * GIB
    tenant.kubectl.run("delete", "deployment", "replica", "--cascade=foreground", timeout_s=90)
    _nothing_left(tenant)


def test_pods_of_one_claim_have_one_share_between_them(tenant: Tenant) -> None:
    """Three pods of a claim have one quota and one entry on the node; when all have gone the claim can be had again."""
    tenant.kubectl.apply(_claim("common", tenant.template("common", memory="4Gi")))
    uid = tenant.kubectl.get("resourceclaim", "common")["metadata"]["uid"]
    source = {"gpu": {"resourceClaimName": "common"}}
    for number in range(2):
        names = [f"user-{number}-{index}" for index in range(3)]
        first, *others = names
        tenant.kubectl.apply(pod_with(source, name=first, script=HOLD.format(gib=3)))
        tenant.kubectl.wait_line(first, "CUDA_SUCCESS")
        tenant.kubectl.apply(*(pod_with(source, name=name, script=HOLD.format(gib=2)) for name in others))
        for name in others:
            assert tenant.kubectl.wait_line(name, "CUDA_") == ["CUDA_ERROR_OUT_OF_MEMORY"]
        (place,) = {item["spec"]["nodeName"] for item in tenant.kubectl.items("pods")}
        prepared = NodeFiles(tenant.site, node=int(place.removeprefix("node-"))).prepared()
        assert prepared.everything == {uid}
        assert prepared.shares[uid] == 1
        tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", timeout_s=90)
        eventually(lambda: not _allocated(tenant), what="the claim is nobody's", deadline_s=60)


def test_pods_that_come_and_go_leave_nothing_behind(tenant: Tenant) -> None:
    """Pods deleted before, while and after they start, three times over, leave no claim, no file and no memory."""
    tenant.kubectl.apply(tenant.template("share", memory="1Gi"))
    for number in range(3):
        names = [f"brief-{number}-{index}" for index in range(4)]
        tenant.kubectl.apply(*(pod(name, template="share", script=HOLD.format(gib=1), node=1) for name in names))
        if number:
            wait_until(lambda: _allocated(tenant), what="something allocated")
        if number == 2:
            all_run(tenant, names)
        tenant.kubectl.run("delete", "pods", "--all", "--grace-period=1", "--wait=false")
    eventually(lambda: not tenant.kubectl.items("pods"), what="no pod left", deadline_s=90)
    _nothing_left(tenant)
    assert [card.used_bytes for card in tenant.site.cards(1)] == [0]


def test_two_claims_of_a_pod_are_two_devices(tenant: Tenant) -> None:
    """A pod with two claims for all that a device has gets two of them, and sees what both have."""
    whole = tenant.template("whole")
    sources = {name: {"resourceClaimTemplateName": "whole"} for name in ("first", "second")}
    tenant.kubectl.apply(whole, pod_with(sources, name="two", script=SEES + PAUSE, node=2))
    seen = tenant.kubectl.wait_line("two", "sees")[-1].split()[1:]
    devices = [device for _, device, _ in _allocated(tenant)]
    assert len(set(devices)) == 2
    assert sum(map(int, seen)) == 2 * (81920 if has(tenant.site, Capability.SHARES) else 20480)


@pytest.mark.parametrize(
    "expression",
    [
        'device.attributes["gpu.hami.io"].productName.matches("^NVIDIA A100")',
        'device.attributes["gpu.hami.io"].architecture == "Ampere"',
        'device.attributes["gpu.hami.io"].driverVersion.isGreaterThan(semver("400.0.0"))',
        'device.capacity["gpu.hami.io"].memory.compareTo(quantity("3Gi")) >= 0',
    ],
    ids=["productName", "architecture", "driverVersion", "memory"],
)
def test_a_selector_that_fits_finds_a_card(tenant: Tenant, expression: str) -> None:
    """Pods choose cards by what the slices say of them, in the words of CEL."""
    tenant.kubectl.apply(
        _choosing(tenant.template("chosen", memory="1Gi"), expression), pod("chooser", template="chosen")
    )
    tenant.kubectl.wait_running("chooser")


def test_a_selector_that_fits_nothing_keeps_the_pod_waiting(tenant: Tenant) -> None:
    """A card that nobody has is waited for, and the scheduler says so."""
    expression = 'device.attributes["gpu.hami.io"].productName.matches("H300")'
    tenant.kubectl.apply(_choosing(tenant.template("chosen"), expression), pod("waiting", template="chosen"))
    wait_until(lambda: tenant.events_of("waiting", reason="FailedScheduling"), what="FailedScheduling")
    assert tenant.kubectl.get("pod", "waiting")["status"]["phase"] == "Pending"


def test_a_card_is_chosen_and_avoided_by_its_uuid(tenant: Tenant) -> None:
    """`in` a list takes that card, not `in` it takes the other: HAMi's use-gpuuuid and nouse-gpuuuid."""
    first, second = (card.uuid for card in tenant.site.cards(2))
    uuid = 'device.attributes["gpu.hami.io"].uuid'
    templates = {"taken": f'{uuid} in ["{second}"]', "avoided": f'!({uuid} in ["{second}"])'}
    tenant.kubectl.apply(
        *(_choosing(tenant.template(name, memory="2Gi"), expression) for name, expression in templates.items()),
        *(pod(name, template=name, script=HOLD.format(gib=1), node=2) for name in templates),
    )
    for name in templates:
        assert tenant.kubectl.wait_line(name, "CUDA_") == ["CUDA_SUCCESS"]
    used = {card.uuid: len(card.processes) for card in tenant.site.cards(2)}
    assert used == {first: 1, second: 1}


@pytest.mark.needs(Capability.SHARES)
def test_shares_fill_a_card_to_the_last_byte(tenant: Tenant) -> None:
    """40 and 60 percent of memory, 60 and 40 of cores: both run on one card, and nothing more fits."""
    sizes = {"small": ("32Gi", 60), "large": ("48Gi", 40), "more": ("1Mi", 0)}
    tenant.kubectl.apply(
        *(tenant.template(name, memory=memory, cores=cores) for name, (memory, cores) in sizes.items()),
        *(pod(name, template=name, node=1) for name in ("small", "large")),
    )
    all_run(tenant, ["small", "large"])
    tenant.kubectl.apply(pod("more", template="more", node=1))
    wait_until(lambda: tenant.events_of("more", reason="FailedScheduling"), what="FailedScheduling")
    assert len(_allocated(tenant)) == 2


@pytest.fixture
def legacy(site: Site) -> Iterator[str]:
    """A DeviceClass whose devices can be asked for as an extended resource."""
    selectors = [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]
    made = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": "legacy.gpu.hami.io"},
        "spec": {"selectors": selectors, "extendedResourceName": LEGACY},
    }
    site.kubectl.apply(made)
    yield LEGACY
    site.kubectl.delete("deviceclass", "legacy.gpu.hami.io")


@pytest.mark.older
@pytest.mark.needs(Capability.EXTENDED_RESOURCES)
def test_a_pod_of_before_asks_for_an_extended_resource(tenant: Tenant, legacy: str) -> None:
    """`nvidia.com/gpu: 1` and not a word of claims: the pod gets a card of its own, and gives it back."""
    old = pod_with({}, name="old", script=SEES + PAUSE, node=1)
    (container,) = old["spec"]["containers"]
    container["resources"] = {"limits": {legacy: "1"}}
    tenant.kubectl.apply(old)
    assert tenant.kubectl.wait_line("old", "sees") == ["sees 81920"]
    assert len(tenant.claims()) == 1
    eventually(lambda: _prepared(tenant.claims()[0]) == ["True"], what="the claim Ready", detail=tenant.claims)
    tenant.kubectl.delete("pod", "old", now=True)
    _nothing_left(tenant)


def _prepared(claim: Mapping[str, KubeObject]) -> Sequence[str]:
    devices = claim["status"].get("devices", [])
    return [found["status"] for device in devices for found in device["conditions"] if found["type"] == "Ready"]
