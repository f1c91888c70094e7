"""AMD's cards cut into partitions and joined again, on a kernel that does what the real one does."""

from pathlib import Path

import pytest

from hami_dra.core.errors import DriverError, PartitionRefused
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import DeviceFile, LivePartition, Partition
from hami_dra.testing.amdgpu import MI210, MI300X, AmdCard, AmdMachine
from hami_dra.vendors.amd import AmdDiscovery, Roots
from hami_dra.vendors.amd.partitions import AmdPartitions, write

FIRST, SECOND = "0000:05:00.0", "0000:c1:00.0"
CARD = DeviceName("gpu-0000-05-00-0")
GIB = 1 << 30


def machine(root: Path, *, mode: str = "SPX", memory_mode: str = "NPS1") -> AmdMachine:
    """An MI300X in these modes and an MI210."""
    first = AmdCard(model=MI300X, pci=FIRST, mode=mode, memory_mode=memory_mode, unique_id=0xABCD)
    return AmdMachine(root, first, AmdCard(model=MI210, pci=SECOND))


def roots(made: AmdMachine) -> Roots:
    """That machine."""
    return Roots(sysfs=made.sysfs, devices=made.root)


def partitions(made: AmdMachine) -> AmdPartitions:
    """What cuts the machine's cards."""
    return AmdPartitions(sysfs=made.sysfs, device=roots(made).device, switch=made.switch)


def part(start: int, profile: str = "cpx") -> Partition:
    """A partition of the MI300X."""
    return Partition(gpu=CARD, profile=profile, start=start)


def node(minor: int) -> DeviceFile:
    """A render node of the machine."""
    return DeviceFile(host_path=f"/dev/dri/renderD{minor}", container_path=f"/dev/dri/renderD{minor}", character=False)


@pytest.mark.parametrize("mode", ["SPX", "CPX"])
def test_a_card_is_offered_in_its_finest_mode(tmp_path: Path, mode: str) -> None:
    """Whatever mode it is in now: eight parts, each with an eighth of memory and compute units; the MI210 cannot be cut."""
    made = machine(tmp_path, mode=mode)
    mi300x, mi210 = AmdDiscovery(roots(made)).discover().gpus
    assert mi210.mig is None
    assert mi300x.mig is not None
    assert (mi300x.mig.enabled, mi300x.mig.switchable) == (False, True)
    (profile,) = mi300x.mig.profiles
    assert (profile.name, profile.instances, profile.multiprocessors) == ("cpx", 8, 38)
    assert profile.memory_bytes == (196592 << 20) // 8
    assert profile.placements == tuple((start, 1) for start in range(8))
    assert mi300x.device_files == (node(128),)


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"available_compute_partition": "SPX, DPX, QPX"}, "qpx"),
        ({"available_compute_partition": "SPX, DPX", "current_memory_partition": "NPS2"}, "dpx"),
        ({"available_compute_partition": "SPX, DPX", "current_memory_partition": "NPS4"}, None),
        ({"available_compute_partition": "SPX, TPX"}, None),
        ({"available_compute_partition": "SPX"}, None),
        ({"available_compute_partition": "CPX"}, None),
        ({"available_compute_partition": "garbage"}, None),
        ({"current_memory_partition": "UNKNOWN"}, None),
        ({"current_compute_partition": ""}, None),
    ],
)
def test_only_modes_that_the_card_can_enter_are_offered(
    tmp_path: Path, files: dict[str, str], name: str | None
) -> None:
    """As many parts as memory domains or more, and dies that come out even; anything strange is a card that is not cut."""
    made = machine(tmp_path)
    for file, content in files.items():
        (made.directory(FIRST) / file).write_text(content)
    mig = AmdDiscovery(roots(made)).discover().gpus[0].mig
    assert (mig.profiles[0].name if mig else None) == name


def test_a_kernel_that_does_not_count_dies_cuts_no_card(tmp_path: Path) -> None:
    """How many parts CPX makes would be a guess."""
    made = machine(tmp_path)
    properties = made.node(1) / "properties"
    properties.write_text(properties.read_text().replace("num_xcc 8", ""))
    (made.directory(FIRST) / "available_compute_partition").write_text("SPX, CPX")
    assert AmdDiscovery(roots(made)).discover().gpus[0].mig is None


def test_the_first_partition_cuts_the_card_and_the_others_find_it_cut(tmp_path: Path) -> None:
    """Each has the render node that KFD names for it, and no other; asking again changes nothing."""
    made = machine(tmp_path)
    cutter = partitions(made)
    expected = {0: 128, 3: 132, 7: 136}
    for start, minor in (*expected.items(), (3, 132)):
        live = cutter.ensure(part(start), make=True)
        assert live == LivePartition(uuid=live.uuid, device_files=(node(minor),), alone=True)
        assert live.uuid == f"gpu-0000-05-00-0-cpx-{start}"
    assert made.switches == 1
    assert cutter.live(CARD) == frozenset()
    cutter.remove(part(3))
    assert made.card(FIRST).mode == "CPX"


def test_a_card_that_is_needed_whole_is_joined(tmp_path: Path) -> None:
    """And left alone where it is whole, or cannot be cut at all."""
    made = machine(tmp_path, mode="CPX")
    cutter = partitions(made)
    for _ in range(2):
        cutter.make_whole(CARD)
    assert (made.card(FIRST).mode, made.switches) == ("SPX", 1)


def test_a_card_in_use_is_not_switched(tmp_path: Path) -> None:
    """The kernel says so, and the message says what to look for."""
    made = machine(tmp_path)
    made.busy.add(FIRST)
    with pytest.raises(PartitionRefused, match=r"gpu-0000-05-00-0-cpx-0: .* to mode CPX while a process uses it"):
        partitions(made).ensure(part(0), make=True)
    made = machine(tmp_path / "cut", mode="CPX")
    made.busy.add(FIRST)
    with pytest.raises(PartitionRefused, match="to mode SPX while a process uses it"):
        partitions(made).make_whole(CARD)
    assert partitions(made).ensure(part(1), make=True).device_files


def test_what_the_card_cannot_do_is_refused(tmp_path: Path) -> None:
    """A mode that its memory mode does not allow, and a partition that somebody else's switch took away."""
    made = machine(tmp_path, memory_mode="NPS4")
    with pytest.raises(PartitionRefused, match="does not take mode DPX"):
        partitions(made).ensure(part(0, "dpx"), make=True)
    with pytest.raises(PartitionRefused, match="in mode SPX, not CPX, any more"):
        partitions(made).ensure(part(0), make=False)


def test_a_kernel_that_does_something_else_is_not_believed(tmp_path: Path) -> None:
    """The mode is read back, and the partition must be there with its device file."""
    made = machine(tmp_path)

    def deaf(_file: Path, _word: str) -> None:
        """Takes the word and does nothing."""

    with pytest.raises(DriverError, match="but the kernel says SPX"):
        AmdPartitions(sysfs=made.sysfs, device=roots(made).device, switch=deaf).ensure(part(0), make=True)
    made.cut(FIRST, "CPX")
    with pytest.raises(DriverError, match="shows 8 partitions of it and no render node of number 9"):
        partitions(made).ensure(part(9), make=True)
    (made.root / "dev/dri/renderD130").unlink()
    with pytest.raises(DriverError, match="renderD130 is not there"):
        partitions(made).ensure(part(1), make=True)


def test_a_word_is_written_to_a_file_that_is_there(tmp_path: Path) -> None:
    """One that is not there is not made: sysfs belongs to the kernel."""
    file = tmp_path / "mode"
    with pytest.raises(FileNotFoundError):
        write(file, "CPX")
    file.write_text("SPX")
    write(file, "CPX")
    assert file.read_text() == "CPX"
    made = machine(tmp_path / "machine")
    (made.directory(FIRST) / "current_compute_partition").unlink()
    with pytest.raises(DriverError, match="cannot switch the card to mode CPX: No such file"):
        AmdPartitions(sysfs=made.sysfs, device=roots(made).device).ensure(part(0), make=True)
