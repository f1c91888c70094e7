"""simctl makes a driver root that tools take for real, and keeps what is there."""

from collections.abc import Callable
from pathlib import Path

import pytest
from native.simgpu.node import MIB, Node


def test_create_twice_changes_nothing(node: Node) -> None:
    """The same command again keeps the UUIDs and the accounts, also while a process runs."""
    before = node.cards()
    with node.holding(MIB):
        assert node.create("--model", "A100", "--count", "2").status == 0
        assert node.used() == MIB
    after = node.cards()
    assert [card["uuid"] for card in before] == [card["uuid"] for card in after]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--model", "A100"), "number of cards"),
        (("--model", "T4", "--count", "2"), "models"),
        (("--model", "A100", "--count", "2", "--driver-version", "570.00.01"), "driver version"),
        (("--model", "A100", "--count", "2", "--pci", "0000:01:00.0,0000:02:00.0"), "PCI addresses"),
        (("--model", "A100", "--count", "2", "--memory", "1G"), "memory"),
    ],
)
def test_create_refuses_another_node_in_the_same_place(node: Node, arguments: tuple[str, ...], word: str) -> None:
    """Cards that processes may be using are not replaced; the message says what differs."""
    refused = node.create(*arguments)
    assert refused.status == 1
    assert word in refused.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--root", "x"),
        ("create", "--model", "A100"),
        ("create", "--root", "x", "--model", "A100", "--count", "many"),
        ("create", "--root", "x", "--model", "A100", "--json"),
        ("list", "--card", "0"),
        ("set", "--root", "x"),
        ("dance",),
        (),
    ],
)
def test_a_wrong_command_line_is_explained(node: Node, arguments: tuple[str, ...]) -> None:
    """What simctl cannot do ends with status 2 and words."""
    done = node.simctl(*arguments)
    assert done.status == 2
    assert done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "Voodoo"), "unknown, want one of T4 L4"),
        (("--model", "A100", "--count", "0"), "want between 1 and 32"),
        (("--model", "A100", "--pci", "17:00"), "want an address"),
        (("--model", "A100", "--pci", "0000:17:00.0,0000:31:00.0"), "one item for each"),
        (("--model", "A100", "--count", "2", "--pci", "0000:17:00.0,0000:17:00.0"), "one PCI address"),
        (("--model", "A100", "--uuid", "GPU-1"), "want GPU-"),
        (("--model", "A100", "--numa", "x"), "want 1 node numbers"),
        (("--model", "A100", "--driver-version", "latest"), "want one such as 570.00.01"),
    ],
)
def test_a_node_that_cannot_be_is_refused(simgpu: Path, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """A wrong value is named, and nothing is made."""
    node = Node(root=tmp_path / "other", build=simgpu)
    refused = node.create(*arguments)
    assert refused.status == 1
    assert words in refused.err
    assert not node.root.exists()


def test_the_root_looks_like_a_driver_package(make_node: Callable[..., Node]) -> None:
    """Versioned libraries with their links, tools, device files that anybody may open, and a sysfs of PCI devices."""
    node = make_node("--model", "H100", "--driver-version", "570.00.01", "--pci", "0000:17:00.0", "--numa", "1")
    for stem in ("libcuda", "libnvidia-ml"):
        folder = node.root / "usr" / "lib64"
        assert (folder / f"{stem}.so.1").readlink() == Path(f"{stem}.so.570.00.01")
        assert (folder / f"{stem}.so").readlink() == Path(f"{stem}.so.1")
        assert (folder / f"{stem}.so.570.00.01").read_bytes()[:4] == b"\x7fELF"
    for name in ("nvidiactl", "nvidia0", "nvidia-uvm", "nvidia-uvm-tools"):
        assert (node.root / "dev" / name).stat().st_mode & 0o777 == 0o666
    device = node.root / "sys" / "bus" / "pci" / "devices" / "0000:17:00.0"
    assert device.resolve() == node.root / "sys" / "devices" / "pci0000:17" / "0000:17:00.0"
    texts = {name: (device / name).read_text() for name in ("numa_node", "vendor", "device", "class")}
    assert texts == {"numa_node": "1\n", "vendor": "0x10de\n", "device": "0x2330\n", "class": "0x030200\n"}


def test_nvidia_smi_lists_the_cards(node: Node) -> None:
    """Under the name of NVIDIA's tool, `-L` prints what scripts expect."""
    cards = node.cards()
    done = node.run([node.root / "usr" / "bin" / "nvidia-smi", "-L"])
    assert done.out.splitlines() == [
        f"GPU {card['index']}: NVIDIA A100-SXM4-80GB (UUID: {card['uuid']})" for card in cards
    ]
    assert "NVIDIA A100-SXM4-80GB" in node.run([node.root / "usr" / "bin" / "nvidia-smi"]).out
