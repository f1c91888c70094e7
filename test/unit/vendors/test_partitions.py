"""MIG partitions on the simulated driver: made where they were allocated, found again, removed, or refused with the reason."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from native.simgpu.node import MIB, Node

from hacklib.native.build import build
from hacklib.paths import REPOSITORY
from hacklib.ui import Ui
from hami_dra.core.errors import HamiDraError
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Partition
from hami_dra.testing.gpus import inventory
from hami_dra.testing.partitions import CuttableCards

pytestmark = pytest.mark.native

HERE = Path(__file__).parent
GPU = "gpu-0000-17-00-0"
SMALL = (GPU, "1g.10gb", 6)
LARGE = (GPU, "3g.40gb", 0)


@dataclass(frozen=True)
class Vendor:
    """The process that makes partitions."""

    process: "subprocess.Popen[str]"

    def do(self, *command: Any) -> Any:
        """The value of a call."""
        answer = self.ask(*command)
        assert "error" not in answer, answer
        return answer["value"]

    def refusal(self, *command: Any, error: str = "PartitionRefused") -> str:
        """The message of a call that fails."""
        answer = self.ask(*command)
        assert answer.get("error") == error, answer
        return str(answer["message"])

    def ask(self, *command: Any) -> dict[str, Any]:
        """A call, and what came of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def look(self) -> dict[str, Any]:
        """The card, as discovery sees it."""
        (card,) = self.do("look")
        found: dict[str, Any] = card
        return found


@contextmanager
def vendor_of(node: Node) -> Iterator[Vendor]:
    """A process that makes partitions on that node."""
    with subprocess.Popen(
        [sys.executable, HERE / "partition_node.py", node.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]},
    ) as process:
        try:
            yield Vendor(process)
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def make_node(tmp_path: Path) -> Callable[..., Node]:
    """Makes a node with one card of that model."""

    def make(model: str, *arguments: str) -> Node:
        made = Node(root=tmp_path / "driver", build=build(preset="release", ui=Ui()) / "simgpu")
        assert made.create("--model", model, "--pci", "0000:17:00.0", *arguments).status == 0
        return made

    return make


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    """A node with an A100 that is not in MIG mode."""
    return make_node("A100")


@pytest.fixture
def vendor(node: Node) -> Iterator[Vendor]:
    """A process that makes partitions on it."""
    with vendor_of(node) as vendor:
        yield vendor


def instances(node: Node) -> list[tuple[str, int, int]]:
    """What simctl sees: profile, start and number of compute instances."""
    return sorted((i["profile"], i["start"], len(i["compute"])) for i in node.cards()[0]["mig"]["instances"])


@pytest.mark.parametrize(
    ("model", "profiles", "places"), [("A100", 7, 25), ("A30", 5, 13), ("H100", 7, 25), ("H200", 7, 25)]
)
def test_discovery_tells_what_a_card_can_be_cut_into(
    make_node: Callable[..., Node], model: str, profiles: int, places: int
) -> None:
    """Profiles with their memory, slices and places come from NVML, whether the card is in MIG mode or not."""
    with vendor_of(make_node(model)) as vendor:
        mig = vendor.look()["mig"]
        assert (mig["enabled"], mig["switchable"], len(mig["profiles"])) == (False, True, profiles)
        assert sum(len(profile["placements"]) for profile in mig["profiles"]) == places
        largest = max(mig["profiles"], key=lambda profile: profile["memory_bytes"])
        assert largest["placements"] == [[0, largest["memory_slices"]]]


def test_a_card_without_mig_has_none(make_node: Callable[..., Node]) -> None:
    """A T4 is offered as before, and refuses partitions."""
    with vendor_of(make_node("T4")) as vendor:
        assert vendor.look()["mig"] is None
        assert "the card has no MIG" in vendor.refusal("make", *SMALL)
        assert vendor.do("live", GPU) == []
        vendor.do("make_whole", GPU)
        vendor.do("remove", *SMALL)


def test_a_partition_is_made_where_it_was_allocated(node: Node, vendor: Vendor) -> None:
    """The idle card enters MIG mode, and instance and compute instance lie at the placement; discovery then lists them."""
    made = vendor.do("make", *SMALL)
    assert instances(node) == [("1g.10gb", 6, 1)]
    (listed,) = vendor.look()["instances"]
    assert (listed["profile"], listed["start"], listed["uuid"]) == ("1g.10gb", 6, made["uuid"])
    assert made["uuid"].startswith("MIG-")
    assert vendor.do("live", GPU) == [f"{GPU}-mig-1g-10gb-6"]


def test_a_container_gets_the_capabilities_of_its_instance(node: Node, vendor: Vendor) -> None:
    """The files are those that the driver names in procfs for this GPU instance and its compute instance."""
    made = vendor.do("make", *LARGE)
    (instance,) = node.cards()[0]["mig"]["instances"]
    entry = node.root / f"proc/driver/nvidia/capabilities/gpu0/mig/gi{instance['id']}"
    minors = [path.read_text().split()[1] for path in (entry / "access", entry / "ci0/access")]
    assert [file["container_path"] for file in made["device_files"]] == [
        f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in minors
    ]
    assert made["device_files"][0]["host_path"] == f"/opt/sim/dev/nvidia-caps/nvidia-cap{minors[0]}"


def test_a_capability_without_a_file_is_given_by_its_numbers(node: Node, vendor: Vendor) -> None:
    """The host's file need not be there: the kernel's list of devices says the rest; without it the message says who makes it."""
    file = vendor.do("make", *SMALL)["device_files"][0]["container_path"]
    (node.root / file.removeprefix("/")).unlink()
    assert f"{file} is not there: is nvidia-modprobe installed" in vendor.refusal("find", *SMALL, error="DriverError")
    (node.root / "proc/devices").write_text(
        "Character devices:\n195 nvidia\n237 nvidia-caps\n\nBlock devices:\n259 blkext\n"
    )
    found = vendor.do("find", *SMALL)["device_files"][0]
    assert found["number"] == [237, int(file.removeprefix("/dev/nvidia-caps/nvidia-cap"))]
    assert found["host_path"] == file


def test_making_it_again_changes_nothing(node: Node, vendor: Vendor) -> None:
    """The second call finds what the first made, in the same process and in another."""
    made = vendor.do("make", *SMALL)
    assert vendor.do("make", *SMALL) == made
    assert vendor.do("find", *SMALL) == made
    with vendor_of(node) as other:
        assert other.do("make", *SMALL) == made
    assert instances(node) == [("1g.10gb", 6, 1)]


def test_an_instance_without_compute_instance_is_finished_or_removed(node: Node, vendor: Vendor) -> None:
    """What a process left that died between the two calls of NVML neither blocks the next attempt nor stays (NVIDIA #1452)."""
    vendor.do("make", *SMALL)
    for step in ("make", "remove"):
        with_session(node, "destroy_compute")
        assert instances(node) == [("1g.10gb", 6, 0)]
        assert vendor.look()["instances"] == []
        assert vendor.do("live", GPU) == [f"{GPU}-mig-1g-10gb-6"]
        vendor.do(step, *SMALL)
    assert instances(node) == []


def test_removing_takes_that_instance_alone(node: Node, vendor: Vendor) -> None:
    """Instances beside it stay, and removing what is not there is no error."""
    vendor.do("make", *SMALL)
    vendor.do("make", *LARGE)
    vendor.do("remove", *SMALL)
    vendor.do("remove", *SMALL)
    vendor.do("remove", GPU, "1g.10gb", 5)
    vendor.do("remove", GPU, "9g.1gb", 0)
    assert instances(node) == [("3g.40gb", 0, 1)]


def test_a_partition_in_use_is_not_removed(node: Node, vendor: Vendor) -> None:
    """While a process computes on it NVML refuses, and the call says so; afterwards it goes."""
    vendor.do("make", *SMALL)
    with node.holding(MIB):
        assert "In use" in vendor.refusal("remove", *SMALL, error="DriverError")
    vendor.do("remove", *SMALL)
    assert instances(node) == []


@pytest.mark.parametrize("model", ["A100", "H100"])
def test_a_busy_card_is_not_switched(make_node: Callable[..., Node], model: str) -> None:
    """Neither into MIG mode nor out of it while a process uses the card, and no wish is left pending."""
    node = make_node(model)
    with vendor_of(node) as vendor:
        with node.holding(MIB) as process:
            assert f"while processes use the card ({process.pid})" in vendor.refusal("make", *SMALL)
        assert node.cards()[0]["mig"] == {"enabled": False, "pending": False, "instances": []}
        vendor.do("make", *SMALL)
        assert "has GPU instances" in vendor.refusal("make_whole", GPU)
        vendor.do("remove", *SMALL)
        vendor.do("make_whole", GPU)
        assert node.cards()[0]["mig"] == {"enabled": False, "pending": False, "instances": []}


def test_a_foreign_instance_in_the_way_is_named_and_left_alone(node: Node, vendor: Vendor) -> None:
    """An allocation that overlaps what somebody else made is refused."""
    assert node.simctl("mig", "enable", "--root", node.root).status == 0
    assert node.simctl("mig", "create", "--root", node.root, "--profile", "2g.20gb", "--start", "0").status == 0
    assert "taken by GPU instance 3 on memory slices 0 to 1" in vendor.refusal("make", *LARGE)
    assert instances(node) == [("2g.20gb", 0, 1)]


def test_what_the_card_cannot_do_is_refused(vendor: Vendor) -> None:
    """A profile or a place that the card does not have is named with what it has."""
    assert "has no profile 2g.20gb at memory slice 1, but 1g.10gb, 2g.20gb" in vendor.refusal("make", GPU, "2g.20gb", 1)


def test_a_static_partition_is_found_and_never_made(node: Node, vendor: Vendor) -> None:
    """Without the right to make it a missing one is refused, and one that is cut further is no device."""
    assert "not in MIG mode any more" in vendor.refusal("find", *SMALL)
    vendor.do("make", *SMALL)
    assert "somebody destroyed the instance" in vendor.refusal("find", *LARGE)
    with_session(node, "destroy_compute")
    assert "has 0 compute instances" in vendor.refusal("find", *SMALL)
    assert instances(node) == [("1g.10gb", 6, 0)]


def test_a_process_that_may_not_configure_leaves_such_cards_out(node: Node, vendor: Vendor) -> None:
    """Without the capability to configure a card in MIG mode is not offered; one that is not stays what it was."""
    (node.root / "dev/nvidia-caps/nvidia-cap1").unlink()
    assert vendor.look()["mig"] is None
    (node.root / "dev/nvidia-caps/nvidia-cap1").touch(mode=0o400)
    vendor.do("make", *SMALL)
    (node.root / "dev/nvidia-caps/nvidia-cap1").unlink()
    assert vendor.do("look") == []


STEPS: tuple[tuple[str, str, str, int], ...] = (
    ("find", GPU, "1g.10gb", 6),
    ("make", GPU, "1g.10gb", 6),
    ("make", GPU, "1g.10gb+me", 6),
    ("make", GPU, "3g.40gb", 4),
    ("make", GPU, "3g.40gb", 0),
    ("make", GPU, "2g.20gb", 1),
    ("find", GPU, "3g.40gb", 0),
    ("find", GPU, "2g.20gb", 4),
    ("make", GPU, "2g.20gb", 4),
    ("remove", GPU, "1g.10gb", 6),
    ("remove", GPU, "1g.10gb", 6),
    ("make", GPU, "1g.10gb+me", 6),
    ("remove", GPU, "9g.90gb", 0),
)


def test_the_fake_does_as_the_driver_does(vendor: Vendor) -> None:
    """The cards that other tests cut refuse what NVML refuses, and have the same instances after each step."""
    fake = CuttableCards(hardware=lambda: inventory(mig=True))
    for what, gpu, profile, start in STEPS:
        partition = Partition(gpu=DeviceName(gpu), profile=profile, start=start)
        refused = None
        try:
            if what == "remove":
                fake.remove(partition)
            else:
                fake.ensure(partition, make=what == "make")
        except HamiDraError as error:
            refused = type(error).__name__
        assert vendor.ask(what, gpu, profile, start).get("error") == refused
        assert vendor.do("live", gpu) == sorted(each.name for each in fake.live(DeviceName(gpu)))


def with_session(node: Node, what: str) -> None:
    """Do to the only GPU instance what a killed process would have left undone."""
    assert what == "destroy_compute"
    code = (
        "import pynvml as n, ctypes as c; n.nvmlInit(); d = n.nvmlDeviceGetHandleByIndex(0);"
        "a = (n.c_nvmlGpuInstance_t * 7)(); k = c.c_uint(7); n.nvmlDeviceGetGpuInstances(d, 19, a, c.byref(k));"
        "b = (n.c_nvmlComputeInstance_t * 8)(); m = c.c_uint(8);"
        "n.nvmlGpuInstanceGetComputeInstances(a[0], 0, b, c.byref(m)); n.nvmlComputeInstanceDestroy(b[0])"
    )
    assert node.run([sys.executable, "-c", code]).status == 0
