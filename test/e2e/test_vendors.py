"""A node with cards of two vendors: each pod gets the device files of its own."""

from collections.abc import Iterator

import pytest
from e2e.kubernetes import has, here
from e2e.support import Tenant, eventually, pod, share_template

from hacklib.deployment import KubeObject, Site
from hacklib.ui import Ui
from hacklib.versions import Capability
from hami_dra.testing.amdgpu import MI210, MI300X, AmdCard, AmdMachine

pytestmark = [pytest.mark.cluster, pytest.mark.apart, pytest.mark.timeout(600)]

_FILES = """
import os, signal
found = sorted(f"/dev/{name}" for name in os.listdir("/dev") if name.startswith(("nvidia", "kfd")))
found += [f"/dev/dri/{name}" for name in sorted(os.listdir("/dev/dri"))] if os.path.isdir("/dev/dri") else []
print(" ".join(found), flush=True)
print("set:", *(name for name in sorted(os.environ) if name.endswith("_VISIBLE_DEVICES")), flush=True)
signal.pause()
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One node with a simulated A100, an MI300X and an MI210."""
    with here().running(name="e2e-vendors", cards=[[("A100", 1)]], ui=Ui()) as site:
        AmdMachine(
            site.driver_root(1),
            AmdCard(model=MI300X, pci="0000:c1:00.0", unique_id=0xF8D1E6A2B3C4D5E6),
            AmdCard(model=MI210, pci="0000:c6:00.0", unique_id=0x1234),
        )
        site.install()
        yield site


def _template(name: str, device_class: str, *, selector: str = "") -> KubeObject:
    template = share_template(name)
    (request,) = template["spec"]["spec"]["devices"]["requests"]
    request["exactly"] |= {"deviceClassName": device_class}
    if selector:
        request["exactly"] |= {"selectors": [{"cel": {"expression": selector}}]}
    return template


def test_cards_of_both_vendors_are_published(site: Site) -> None:
    """In one pool; NVIDIA's can be shared, or are cut into parts, AMD's are taken whole."""
    devices = [device for item in site.slices() for device in item["spec"].get("devices", [])]
    shared = has(site, Capability.SHARES)
    shown = {
        device["attributes"]["productName"]["string"]: (
            device["attributes"]["vendor"]["string"],
            device.get("allowMultipleAllocations", False),
            device["capacity"]["memory"]["value"],
        )
        for device in devices
    }
    assert shown == {
        "NVIDIA A100-SXM4-80GB": ("nvidia", shared, "80Gi" if shared else "20Gi"),
        "AMD Instinct MI300X OAM": ("amd", False, "196592Mi"),
        "AMD Instinct MI210": ("amd", False, "64Gi"),
    }


def test_a_pod_gets_the_files_of_its_card_and_of_no_other(site: Site) -> None:
    """The class says which vendor, a selector which card; the claim is Ready, and a third pod waits for a card of AMD's."""
    with Tenant.of(site, name="vendors") as tenant:
        mi300x = 'device.attributes["gpu.hami.io"].architecture == "gfx942"'
        tenant.kubectl.apply(
            _template("mi300x", "amd.gpu.hami.io", selector=mi300x),
            _template("amd", "amd.gpu.hami.io"),
            _template("nvidia", "nvidia.gpu.hami.io"),
            pod("first", template="mi300x", script=_FILES),
        )
        assert tenant.kubectl.wait_line("first", "set:") == [
            "/dev/kfd /dev/dri/renderD128",
            "set: AMD_VISIBLE_DEVICES",
        ]
        assert tenant.wait_condition("first", "Ready")["status"] == "True"
        tenant.kubectl.apply(
            pod("second", template="amd", script=_FILES), pod("green", template="nvidia", script=_FILES)
        )
        assert tenant.kubectl.wait_line("second", "set:")[0] == "/dev/kfd /dev/dri/renderD129"
        files, environment = tenant.kubectl.wait_line("green", "set:")
        assert "/dev/nvidia0" in files.split()
        assert "/dev/kfd" not in files.split()
        assert environment == "set: NVIDIA_VISIBLE_DEVICES"
        tenant.kubectl.apply(pod("third", template="amd"))
        eventually(
            lambda: any(
                "cannot allocate all claims" in event["message"]
                for event in tenant.kubectl.events(
                    about=lambda event: (
                        event["reason"] == "FailedScheduling" and event["involvedObject"]["name"] == "third"
                    )
                )
            ),
            what="the third pod waits for a card",
        )
