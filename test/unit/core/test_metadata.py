"""Device metadata files: what they say, where they lie, and who sees them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from unit.claims import GPU, SHARE, UID, claim, config, gpu_config, result
from unit.core.inventories import MIG, gpu, inventory

from hami_dra.api.k8s import ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.cdi import NodePaths, claim_spec
from hami_dra.core.devices import cut_card
from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import Inventory
from hami_dra.core.layout import Layout
from hami_dra.core.metadata import metadata_files
from hami_dra.core.plan import ClaimPlan, plan_claim
from hami_dra.core.record import from_json, to_json
from hami_dra.core.resolve import resolve
from hami_dra.core.settings import CardMode, CardSettings

ASKED = (config(gpu_config(deviceMetadata=True)),)
FROM_TEMPLATE = {"resource.kubernetes.io/pod-claim-name": "gpus"}
PATHS = NodePaths(claims_dir="/claims", guard_dir="/guard", mps_dir="/mps", mps_shm_dir="/shm")
ROOT = "/var/run/kubernetes.io/dra-device-attributes"


def plan_of(made: ResourceClaim, node: Inventory | None = None) -> ClaimPlan:
    """As the node plans the claim."""
    allocation = read_allocation(made)
    return plan_claim(allocation, resolve(allocation), node or inventory(2))


def files(plan: ClaimPlan, node: Inventory | None = None) -> dict[str, Any]:
    """The files, read."""
    return {name: json.loads(text) for name, text in metadata_files(plan, node or inventory(2)).items()}


def mounts(plan: ClaimPlan) -> list[list[tuple[str, str]]]:
    """For each device of the spec the metadata files that it brings: host path and container path."""
    spec = claim_spec(plan, inventory(2), PATHS, live={})
    return [
        [
            (mount["hostPath"], mount["containerPath"])
            for mount in device["containerEdits"]["mounts"]
            if mount["containerPath"].startswith(ROOT)
        ]
        for device in spec["devices"]
    ]


def test_who_does_not_ask_gets_none() -> None:
    """Neither a file nor a mount; also where the claim takes back what the class asks for."""
    back = (
        config(gpu_config(deviceMetadata=True), source="FromClass"),
        config(gpu_config(deviceMetadata=False)),
    )
    for configs in ((), back):
        plan = plan_of(claim(result(), configs=configs))
        assert files(plan) == {}
        assert mounts(plan) == [[]]


def test_a_file_has_the_format_of_kubernetes() -> None:
    """metadata.resource.k8s.io/v1alpha1: the claim, the request, its devices, their attributes and those of the shares."""
    plan = plan_of(claim(result(), configs=ASKED, annotations=FROM_TEMPLATE))
    (text,) = metadata_files(plan, inventory(2)).values()
    assert text.endswith("}\n")
    written = json.loads(text)
    (request,) = written.pop("requests")
    assert written == {
        "apiVersion": "metadata.resource.k8s.io/v1alpha1",
        "kind": "DeviceMetadata",
        "metadata": {"name": "train", "namespace": "ml", "uid": UID, "generation": 1},
        "podClaimName": "gpus",
    }
    assert request["name"] == "gpu"
    (device,) = request["devices"]
    attributes = device.pop("attributes")
    assert device == {"driver": "gpu.hami.io", "pool": "node-1/gpu", "name": GPU}
    (published,) = cut_card(gpu(), settings=CardSettings(), layout=Layout(mode=CardMode.SHARES, shared=True)).devices
    assert attributes == {name: value for name, value in published["attributes"].items() if name != "mode"} | {
        "isolation": {"string": "Guard"},
        "shareID": {"string": SHARE},
        "shareMemoryBytes": {"int": 16 << 30},
        "shareCoresPercent": {"int": 30},
        "qos": {"string": "FixedShare"},
        "priority": {"string": "Normal"},
    }


def test_the_path_is_that_of_kubernetes() -> None:
    """By the claim's own name, or by its name in the pod where it was made from a template."""
    host = f"/claims/{UID}/metadata-gpu.json"
    own = plan_of(claim(result(), configs=ASKED))
    assert mounts(own) == [[(host, f"{ROOT}/resourceclaims/train/gpu/gpu.hami.io-metadata.json")]]
    made = plan_of(claim(result(), configs=ASKED, annotations=FROM_TEMPLATE))
    assert mounts(made) == [[(host, f"{ROOT}/resourceclaimtemplates/gpus/gpu/gpu.hami.io-metadata.json")]]


@pytest.mark.parametrize("name", ["../../etc", "a/b", "A", "", "-x", "x" * 64])
def test_a_name_in_the_pod_that_is_none_leads_nowhere(name: str) -> None:
    """Anybody can write annotations: only what could be a claim's name in a pod becomes part of a path."""
    plan = plan_of(claim(result(), configs=ASKED, annotations={"resource.kubernetes.io/pod-claim-name": name}))
    ((mount,),) = mounts(plan)
    assert mount[1] == f"{ROOT}/resourceclaims/train/gpu/gpu.hami.io-metadata.json"
    assert "podClaimName" not in files(plan)["metadata-gpu.json"]


def test_each_request_has_its_file_with_all_of_its_devices() -> None:
    """Mounted once; requests that do not ask have none; a subrequest lies where its request does and has its full name."""
    other = "gpu-0000-65-00-0"
    made = claim(
        result("a/big"),
        result("a/big", device=other, shareID="s-2"),
        result("b", shareID="s-3"),
        configs=(config(gpu_config(deviceMetadata=True), requests=["a"]),),
    )
    plan = plan_of(made)
    written = files(plan)
    assert list(written) == ["metadata-a.json"]
    (request,) = written["metadata-a.json"]["requests"]
    assert (request["name"], [each["name"] for each in request["devices"]]) == ("a/big", [GPU, other])
    assert [len(each) for each in mounts(plan)] == [1, 0, 0]


def test_a_fixed_share_and_a_partition_say_what_they_are() -> None:
    """By type, profile, and the name that the driver has for the partition once it is there."""
    share = plan_of(claim(result(device=f"{GPU}-share-1", shareID=None, consumedCapacity=None), configs=ASKED))
    (device,) = files(share)["metadata-gpu.json"]["requests"][0]["devices"]
    assert (device["attributes"]["type"], device["attributes"]["shareMemoryBytes"]) == (
        {"string": "share"},
        {"int": 20 << 30},
    )
    assert "shareID" not in device["attributes"]
    node = Inventory(gpus=(gpu(mig=MIG),), drivers=inventory().drivers)
    name = f"{GPU}-mig-2g-20gb-2"
    cut = plan_of(claim(result(device=name, shareID=None, consumedCapacity=None), configs=ASKED), node)
    (device,) = files(cut, node)["metadata-gpu.json"]["requests"][0]["devices"]
    attributes = device["attributes"]
    assert (attributes["type"], attributes["migProfile"]) == ({"string": "mig"}, {"string": "2g.20gb"})
    assert "uuid" not in attributes
    (share_of_card,) = cut.shares
    assert share_of_card.partition is not None
    named = replace(share_of_card, partition=replace(share_of_card.partition, uuid=GpuUuid("MIG-1")))
    (device,) = files(replace(cut, shares=(named,)), node)["metadata-gpu.json"]["requests"][0]["devices"]
    assert device["attributes"]["uuid"] == {"string": "MIG-1"}


@pytest.mark.parametrize("device", ["gpu-0000-99-00-0", GPU])
def test_a_monitor_has_nothing_of_its_own_and_what_is_gone_has_no_attributes(device: str) -> None:
    """A repeated prepare may come when the card has just been lost."""
    plan = plan_of(claim(result(adminAccess=True), configs=ASKED))
    node = inventory() if device == GPU else Inventory()
    (found,) = files(plan, node)["metadata-gpu.json"]["requests"][0]["devices"]
    said = {"isolation": {"string": "None"}, "shareID": {"string": SHARE}, "adminAccess": {"bool": True}}
    assert {name: found["attributes"][name] for name in said} == said
    assert ("uuid" in found["attributes"]) is (device == GPU)
    assert "shareMemoryBytes" not in found["attributes"]


def test_the_ledger_remembers_who_asked() -> None:
    """And what the pod calls the claim; rows of earlier releases say neither."""
    plan = plan_of(claim(result(), configs=ASKED, annotations=FROM_TEMPLATE))
    assert from_json(to_json(plan)) == plan
    record = json.loads(to_json(plan))
    del record["podClaim"], record["shares"][0]["deviceMetadata"]
    old = from_json(json.dumps(record))
    assert (old.pod_claim, old.shares[0].spec.device_metadata) == ("", False)
