"""A state file that is missing, damaged or hostile leads to an error, never to a crash."""

import json
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from native.simgpu.node import MIB, Node, wait_until

HEADER_SIZE = 4096
CARD_SIZE = 1024
LOCK_OFFSET = 16
SLOT_HIGH_OFFSET = 28
CARD_COUNT_OFFSET = 12
SLOTS_OFFSET = HEADER_SIZE + 32 * CARD_SIZE
SLOT_SIZE = 1152
ENGINE_SIZE = 20480 + 1024 * 64 + 1024 * 1024 + 512 * 128 + 512 * 1024 * 32
NO_DEVICE = 100
UNKNOWN = 999
DRIVER_NOT_LOADED = 9
NOBODY = 65534
BELIEVED_S = 0.03
"""The driver asks for the size of the state file again after this at the latest (account.c)."""
AN_ANSWER = {0, 1}
"""Statuses of a client that heard something, be it an error; a crash is a negative one."""


def write_at(node: Node, offset: int, data: bytes) -> None:
    """Overwrite a piece of the state file."""
    with node.state_file.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def errors(node: Node) -> tuple[int, int, int]:
    """What CUDA and NVML say, and simctl's status."""
    cuda = node.client("cuda_discovery").json["error"]
    nvml = node.client("nvml_discovery").json["error"]
    return cuda, nvml, node.simctl("list", "--root", node.root).status


def test_no_state_file_is_no_driver(node: Node) -> None:
    """Without it CUDA finds no device and NVML no driver."""
    node.state_file.unlink()
    assert errors(node) == (NO_DEVICE, DRIVER_NOT_LOADED, 1)


@pytest.mark.parametrize("size", [0, 1, 100, HEADER_SIZE, SLOTS_OFFSET, SLOTS_OFFSET + 5])
def test_a_truncated_file_is_refused(node: Node, size: int) -> None:
    """A file that is too short for its structure is not mapped."""
    with node.state_file.open("r+b") as file:
        file.truncate(size)
    assert errors(node) == (UNKNOWN, UNKNOWN, 1)


def test_a_file_cut_short_under_a_running_process(node: Node) -> None:
    """What a process asks for after its mapped file was truncated fails; the process itself goes on."""
    with node.running_client("truncated") as client:
        with node.state_file.open("r+b") as file:
            file.truncate(0)
        truncated_at_s = time.monotonic()
        wait_until(lambda: time.monotonic() > truncated_at_s + BELIEVED_S, what="the size of the file asked for again")
        out, _ = client.communicate("go\n")
    assert json.loads(out) == {"allocate": UNKNOWN, "free": 0, "info": UNKNOWN}


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (0, b"NOTSIMGP"),
        (8, struct.pack("<I", 999)),
        (CARD_COUNT_OFFSET, struct.pack("<I", 33)),
        (CARD_COUNT_OFFSET, struct.pack("<I", 0xFFFFFFFF)),
        (HEADER_SIZE + 256, struct.pack("<Q", 0)),
        (HEADER_SIZE + 256, struct.pack("<Q", 2**64 - 1)),
    ],
    ids=["magic", "version", "33 cards", "4 billion cards", "no memory", "too much memory"],
)
def test_an_implausible_head_is_refused(node: Node, offset: int, data: bytes) -> None:
    """Figures that no card has are not believed."""
    write_at(node, offset, data)
    assert errors(node) == (UNKNOWN, UNKNOWN, 1)


def test_texts_without_end_are_cut(node: Node) -> None:
    """Names that fill their arrays to the last byte are read no further."""
    write_at(node, HEADER_SIZE, b"x" * 256)
    assert node.client("nvml_discovery").status in AN_ANSWER
    assert node.client("cuda_discovery").status in AN_ANSWER
    assert node.cards()[0]["name"] == "x" * 95


def test_slots_of_nobody_do_not_count(node: Node) -> None:
    """Slots that claim memory without a living owner are ignored by readers and swept away when memory is needed."""
    slot = struct.pack("<IIi20sQ88x", 1, 7, 1, b"ghost", 0) + struct.pack("<QQQQ", 2**64 - 1, 1, 0, 0) * 32
    write_at(node, SLOTS_OFFSET, slot * 100)
    write_at(node, SLOT_HIGH_OFFSET, struct.pack("<I", 0xFFFFFFFF))
    assert node.used() == 0
    assert node.exercise("hold", str(80 * 1024 * MIB)).status == 0
    assert node.exercise("routes").status == 0


@pytest.mark.parametrize("word", [1, 5, 0x7FF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000])
def test_a_lock_of_nobody_is_taken_over(node: Node, word: int) -> None:
    """A lock word left by a dead owner, or by nobody that can exist, does not stop the living."""
    write_at(node, LOCK_OFFSET, struct.pack("<I", word))
    assert node.exercise("hold", str(MIB)).status == 0


@pytest.mark.parametrize("seed", range(8))
def test_noise_is_survived(node: Node, seed: int) -> None:
    """Random bytes anywhere in the file may lead to any answer, but to an answer."""
    source = random.Random(seed)  # noqa: S311 - noise, not secrets
    engine = node.state_file.stat().st_size - 32 * ENGINE_SIZE
    for _ in range(40):
        write_at(node, source.randrange(0, SLOTS_OFFSET + 8 * SLOT_SIZE), source.randbytes(source.randrange(1, 64)))
        write_at(node, engine + source.randrange(0, 1 << 17), source.randbytes(source.randrange(1, 64)))
    assert node.exercise("hold", str(MIB)).status in {0, 1, 2}
    assert node.run([node.build / "workload", "finish", "1000000", "2"]).status in {0, 1}
    assert node.client("nvml_discovery").status in AN_ANSWER
    assert node.simctl("list", "--root", node.root, "--json").status in AN_ANSWER


@pytest.fixture
def public_node(simgpu: Path) -> Iterator[Node]:
    """A node in a place that every user may reach, with the exerciser beside its tools."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        node = Node(root=Path(folder) / "node", build=simgpu)
        assert node.create("--model", "T4").status == 0
        shutil.copy(simgpu / "exercise", node.root / "usr" / "bin")
        yield node


def test_any_user_may_use_the_cards(public_node: Node) -> None:
    """The device files are everybody's, as NVIDIA's are."""
    assert public_node.run([public_node.root / "usr/bin/exercise", "hold", "1"], user=NOBODY).status == 0


def test_a_node_that_may_not_be_read(public_node: Node) -> None:
    """Whoever may not open the state file has no device, and is told why by simctl."""
    public_node.state_file.chmod(0o600)
    denied = public_node.run([public_node.root / "usr/bin/simctl", "list"], user=NOBODY)
    assert denied.status == 1
    assert "permission denied" in denied.err
    refused = public_node.run([public_node.root / "usr/bin/exercise", "hold", "1"], user=NOBODY)
    assert f"got {NO_DEVICE}" in refused.err
