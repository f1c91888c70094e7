"""The two halves of a CDI spec."""

from dataclasses import replace
from typing import Any

from unit.claims import GPU, SHARE, UID, claim, config, gpu_config, result
from unit.core.inventories import inventory

from hami_dra.api.k8s import JsonObject, ResourceClaim
from hami_dra.core.allocation import read_allocation
from hami_dra.core.cdi import NodePaths, claim_spec, share_data
from hami_dra.core.inventory import DeviceFile, DriverFiles, Inventory
from hami_dra.core.plan import plan_claim
from hami_dra.core.resolve import resolve

PATHS = NodePaths(
    claims_dir="/var/lib/hami-dra/claims",
    guard_dir="/var/lib/hami-dra/guard/abc",
    mps_dir="/var/lib/hami-dra/mps",
    mps_shm_dir="/dev/shm/hami-dra",
)
KEY = f"{GPU}-{SHARE}"


def spec_of(made: ResourceClaim, node: Inventory | None = None) -> JsonObject:
    """The claim's CDI spec."""
    allocation = read_allocation(made)
    return claim_spec(
        plan_claim(allocation, resolve(allocation), node or inventory(2)), node or inventory(2), PATHS, live={}
    )


def mounts(edits: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Container path to host path and first option."""
    return {mount["containerPath"]: (mount["hostPath"], mount["options"][0]) for mount in edits["mounts"]}


def test_a_share_is_one_device_with_its_files() -> None:
    """Limits are mounted read-only and usage read-write, under a path of the share's own, with the card's device node."""
    (device,) = spec_of(claim(result()))["devices"]
    assert device["name"] == f"{UID}-{KEY}"
    assert device["containerEdits"]["deviceNodes"] == [{"path": "/dev/nvidia0"}]
    host = f"/var/lib/hami-dra/claims/{UID}/{KEY}"
    assert mounts(device["containerEdits"]) == {
        f"/run/hami/{KEY}/limits": (f"{host}/limits", "ro"),
        f"/run/hami/{KEY}/usage": (f"{host}/usage", "rw"),
    }


def test_driver_and_guard_are_mounted_once_for_the_claim() -> None:
    """Libraries appear at their sonames in both lines of distributions; the guard and its preload file are read-only."""
    common = spec_of(claim(result()))["containerEdits"]
    assert mounts(common) == {
        "/dev/nvidia-uvm": ("/sim/nvidia-uvm", "rw"),
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1": ("/drv/libcuda.so.570.124.06", "ro"),
        "/usr/lib64/libcuda.so.1": ("/drv/libcuda.so.570.124.06", "ro"),
        "/usr/local/hami/libhami_guard.so": ("/var/lib/hami-dra/guard/abc/libhami_guard.so", "ro"),
        "/etc/ld.so.preload": ("/var/lib/hami-dra/guard/abc/ld.so.preload", "ro"),
    }
    assert common["env"] == ["NVIDIA_VISIBLE_DEVICES=void"]
    assert common["deviceNodes"] == [{"path": "/dev/nvidiactl"}]


def test_only_the_drivers_of_the_claims_cards_come_in() -> None:
    """A node with another vendor's cards does not show their driver to containers that have none of them."""
    node = inventory(2)
    other = DriverFiles(device_files=(DeviceFile(host_path="/dev/kfd", container_path="/dev/kfd"),))
    mixed = replace(node, drivers={**node.drivers, "amd": other})
    assert spec_of(claim(result()), mixed) == spec_of(claim(result()))
    both = replace(mixed, gpus=(node.gpus[0], replace(node.gpus[1], vendor="amd")))
    spec = spec_of(claim(result(), result("b", device=node.gpus[1].name, shareID="s2")), both)
    assert [file["path"] for file in spec["containerEdits"]["deviceNodes"]] == ["/dev/nvidiactl", "/dev/kfd"]


def test_a_spec_has_no_hooks_and_no_limits_in_the_environment() -> None:
    """Hooks run as root on the host, and tenants control their environment: neither may appear."""
    text = str(spec_of(claim(result())))
    assert "hooks" not in text
    assert "30" not in text.replace(UID, "").replace(SHARE, "")


def test_a_whole_card_is_left_alone() -> None:
    """Without isolation there is no guard, no preload and no share directory."""
    spec = spec_of(claim(result(shareID=None, consumedCapacity=None)))
    assert "hami" not in str(spec["containerEdits"])
    assert "mounts" not in spec["devices"][0]["containerEdits"]


def test_a_vanished_device_leaves_its_share_files() -> None:
    """A spec can be written again from the ledger although the card is gone: the runtime then says what lacks."""
    allocation = read_allocation(claim(result()))
    plan = plan_claim(allocation, resolve(allocation), inventory())
    (device,) = claim_spec(plan, Inventory(), PATHS, live={})["devices"]
    assert set(device["containerEdits"]) == {"mounts"}


def test_a_device_file_of_another_name_says_where_it_lies() -> None:
    """A driver container keeps its device files below its root."""
    node = inventory()
    moved = node.gpus[0].device_files[0].__class__(host_path="/run/drv/dev/nvidia0", container_path="/dev/nvidia0")
    gpu = node.gpus[0].__class__(
        **{name: getattr(node.gpus[0], name) for name in node.gpus[0].__slots__} | {"device_files": (moved,)}
    )
    (device,) = spec_of(claim(result()), Inventory(gpus=(gpu,)))["devices"]
    assert device["containerEdits"]["deviceNodes"] == [{"path": "/dev/nvidia0", "hostPath": "/run/drv/dev/nvidia0"}]


def test_what_is_published_is_contained_in_what_is_written() -> None:
    """The controller's half and the node's spec agree: same device, same container paths with the same options."""
    configs = (config(gpu_config(priority="High")),)
    made = claim(result(), result("b", device="gpu-0000-65-00-0", shareID="s2"), configs=configs)
    allocation = read_allocation(made)
    written = {device["name"]: device["containerEdits"] for device in spec_of(made)["devices"]}
    for share in resolve(allocation):
        published = share_data(allocation.uid, share)
        edits = written[published["cdiDevice"].partition("=")[2]]
        bare = [{name: mount[name] for name in ("containerPath", "options")} for mount in edits["mounts"]]
        assert all(mount in bare for mount in published["containerEdits"]["mounts"])


def test_published_data_says_the_limits_in_words_of_the_api() -> None:
    """Memory as a quantity, the rest as GpuConfig spells it; a whole device has no amount to tell."""
    allocation = read_allocation(claim(result(), result("b", shareID=None, consumedCapacity=None)))
    share, whole = (share_data(allocation.uid, spec) for spec in resolve(allocation))
    assert share["limits"] == {
        "memory": "16Gi",
        "cores": 30,
        "isolation": "Guard",
        "qos": "FixedShare",
        "priority": "Normal",
    }
    assert "memory" not in whole["limits"]
    configs = (config(gpu_config(memory={"oversubscription": "8192Mi"})),)
    (more,) = resolve(read_allocation(claim(result(), configs=configs)))
    assert share_data(allocation.uid, more)["limits"] == share["limits"] | {"oversubscription": "8Gi"}
    assert whole["containerEdits"] == {"mounts": []}
