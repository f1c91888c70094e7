"""Shares of a MIG partition: held, shown and told apart as shares of a card are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from native.guard.harness import OUT_OF_MEMORY, Container, Node, Programs, make_share

MIB = 1 << 20
GIB = 1 << 30
CONTEXT = 10 * MIB
PARTITION = 19968 * MIB

pytestmark = pytest.mark.native

PROCESSES = """
import os, pynvml as n
n.nvmlInit()
parent = n.nvmlDeviceGetHandleByIndex(0)
found = []
for index in range(n.nvmlDeviceGetMaxMigDeviceCount(parent)):
    try:
        device = n.nvmlDeviceGetMigDeviceHandleByIndex(parent, index)
    except n.NVMLError:
        continue
    if n.nvmlDeviceGetUUID(device) == os.environ["CUDA_VISIBLE_DEVICES"]:
        memory = n.nvmlDeviceGetMemoryInfo(device)
        print(memory.total, memory.used)
        for process in n.nvmlDeviceGetComputeRunningProcesses(device):
            print(process.pid, process.usedGpuMemory, process.gpuInstanceId, process.computeInstanceId)
"""


@pytest.fixture
def node(programs: Programs, tmp_path: Path) -> Node:
    """A card that is cut into two partitions of 2g.20gb, and whose contexts take memory."""
    simctl = programs.simgpu / "simctl"
    root = tmp_path / "node"
    for words in (
        ("create", "--root", root, "--model", "A100", "--mig", "2g.20gb,2g.20gb"),
        ("set", "--root", root, "--context-overhead", str(CONTEXT)),
    ):
        subprocess.run([simctl, *words], check=True, capture_output=True)
    return Node(root=root, simctl=simctl)


def partitions(node: Node) -> list[tuple[str, int]]:
    """UUID and GPU instance of each MIG device."""
    listing = subprocess.run([node.simctl, "list", "--root", node.root, "--json"], capture_output=True, check=True)
    (card,) = json.loads(listing.stdout)["cards"]
    return [(instance["compute"][0]["uuid"], instance["id"]) for instance in card["mig"]["instances"]]


def container_on(node: Node, programs: Programs, uuid: str, *directories: Path) -> Container:
    """A container that uses one MIG device under these shares."""
    return Container(
        programs=programs,
        driver=node.environment,
        shares=directories,
        environment={"CUDA_VISIBLE_DEVICES": uuid},
    )


def test_two_shares_of_one_partition_keep_to_their_limits(node: Node, programs: Programs, tmp_path: Path) -> None:
    """Each has its limit, sees it as its device, and neither can take what is the other's or the partition beside it."""
    uuid, _ = partitions(node)[0]
    shares = [make_share(tmp_path, name, uuid=uuid, memory_bytes=8 * GIB) for name in ("a", "b")]
    first, second = (container_on(node, programs, uuid, share.directory) for share in shares)
    with first.client() as one, second.client() as two:
        for client in (one, two):
            client.start()
            assert client.view() == (8 * GIB - CONTEXT, 8 * GIB, 8 * GIB)
            assert client.allocate(8 * GIB - CONTEXT + 1) == OUT_OF_MEMORY
            assert client.allocate(8 * GIB - CONTEXT) == 0
        assert [share.used_bytes for share in shares] == [8 * GIB, 8 * GIB]
        assert node.cards()[0].used_bytes == 16 * GIB


def test_what_a_context_takes_of_a_partition_is_charged(node: Node, programs: Programs, tmp_path: Path) -> None:
    """NVML knows a partition as MIG-…, not GPU-…: the guard asks by the right name, and gives back at the end."""
    uuid, _ = partitions(node)[0]
    share = make_share(tmp_path, "share", uuid=uuid, memory_bytes=GIB)
    with container_on(node, programs, uuid, share.directory).client() as client:
        client.start()
        assert share.overhead_bytes == share.used_bytes == CONTEXT
        assert client.ask("reset") == ["0"]
        assert share.used_bytes == 0


def test_a_share_of_one_partition_does_not_hold_the_other(node: Node, programs: Programs, tmp_path: Path) -> None:
    """A container with a share of one and the whole of another is limited on the first alone."""
    (held, _), (free, _) = partitions(node)
    share = make_share(tmp_path, "share", uuid=held, memory_bytes=GIB)
    with container_on(node, programs, free, share.directory).client() as client:
        client.start()
        assert client.view()[1] == PARTITION
        assert client.allocate(2 * GIB) == 0
        assert share.used_bytes == 0


def test_nvml_tells_the_instances_of_processes(node: Node, programs: Programs, tmp_path: Path) -> None:
    """On a partition NVML shows the share's memory and its processes, with the GPU instance that they run on."""
    uuid, instance = partitions(node)[1]
    share = make_share(tmp_path, "share", uuid=uuid, memory_bytes=4 * GIB)
    container = container_on(node, programs, uuid, share.directory)
    with container.client() as client:
        assert client.start().allocate(GIB) == 0
        memory, process = container.run(sys.executable, "-c", PROCESSES).splitlines()
        assert memory.split() == [str(4 * GIB), str(GIB + CONTEXT)]
        assert process.split() == [str(client.process.pid), str(GIB + CONTEXT), str(instance), "0"]
