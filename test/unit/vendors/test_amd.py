"""Which of AMD's cards are offered, whatever the kernel shows of them."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hami_dra.core.errors import DriverError
from hami_dra.core.ids import GpuUuid
from hami_dra.core.inventory import DeviceFile, DriverFiles, Holder
from hami_dra.testing.amdgpu import MI210, MI300X, AmdCard, AmdMachine
from hami_dra.vendors.amd import AmdDiscovery, Roots
from hami_dra.vendors.amd.kfd import gfx_name, read_nodes
from hami_dra.vendors.amd.text import fields, hexadecimal, number, text

FIRST, SECOND = "0000:05:00.0", "0000:c1:00.0"
UNIQUE = 0xF8D1E6A2B3C4D5E6


def machine(root: Path, *, mode: str = "SPX") -> AmdMachine:
    """An MI300X in that mode and, behind it on the bus, an MI210."""
    first = AmdCard(model=MI300X, pci=FIRST, mode=mode, unique_id=UNIQUE)
    return AmdMachine(root, first, AmdCard(model=MI210, pci=SECOND, unique_id=0x1234))


def settled(made: AmdMachine) -> AmdMachine:
    """The machine with an MI300X whose mode is not for this kernel to change, as in a virtual machine."""
    (made.directory(FIRST) / "available_compute_partition").unlink()
    return made


def discovery(root: Path) -> AmdDiscovery:
    """Discovery on that machine; the host calls its directory /opt/sim."""
    return AmdDiscovery(Roots(sysfs=root / "sys", devices=root, host_devices="/opt/sim"), simulated=True)


def posing(name: str) -> DeviceFile:
    """A regular file that poses as a device."""
    return DeviceFile(host_path=f"/opt/sim/dev/{name}", container_path=f"/dev/{name}", character=False)


def test_cards_are_found_with_all_that_sysfs_says(tmp_path: Path) -> None:
    """Name by PCI address, identity as ROCr spells it, memory, architecture, driver, place, and the render node."""
    machine(tmp_path)
    found = discovery(tmp_path).discover()
    mi300x, mi210 = found.gpus
    assert (mi300x.name, mi300x.uuid, mi300x.index) == ("gpu-0000-05-00-0", f"GPU-{UNIQUE:x}", 0)
    assert (mi300x.vendor, mi300x.product_name, mi300x.brand) == ("amd", "AMD Instinct MI300X OAM", "Instinct")
    assert (mi300x.memory_bytes, mi300x.architecture) == (196592 << 20, "gfx942")
    assert (mi300x.driver_version, mi300x.numa_node, mi300x.pcie_root) == ("6.12.12.60402", 0, "pci0000:05")
    assert mi300x.device_files == (posing("dri/renderD128"),)
    assert (mi210.uuid, mi210.architecture, mi210.device_files) == (
        "GPU-0000000000001234",
        "gfx90a",
        (posing("dri/renderD129"),),
    )
    assert found.drivers == {
        "amd": DriverFiles(device_files=(posing("kfd"),), environment=(("AMD_VISIBLE_DEVICES", "void"),))
    }


def test_a_card_that_is_cut_has_a_render_node_for_each_partition(tmp_path: Path) -> None:
    """Where nobody may switch its mode: those that KFD names, its own and those of the xcp devices, and no other card's."""
    settled(machine(tmp_path, mode="CPX"))
    mi300x, mi210 = discovery(tmp_path).discover().gpus
    assert mi300x.memory_bytes == 196592 << 20
    assert mi300x.device_files == tuple(posing(f"dri/renderD{minor}") for minor in (128, *range(130, 137)))
    assert mi300x.mig is None
    assert mi210.device_files == (posing("dri/renderD129"),)


def test_shares_are_held_where_the_kernel_can_cap_the_cards_memory(tmp_path: Path) -> None:
    """By dmem's region of the card; without one, and on a card that stays cut, nothing holds them."""
    made = machine(tmp_path)
    regions = [f"drm/{FIRST}/vram", "drm/0000:99:00.0/vram"]
    look = AmdDiscovery(Roots(sysfs=made.sysfs), regions=lambda: regions)
    mi300x, mi210 = look.discover().gpus
    assert (mi300x.holder, mi300x.memory_region) == (Holder.KERNEL, f"drm/{FIRST}/vram")
    assert (mi210.holder, mi210.memory_region) == (None, None)
    made.cut(FIRST, "CPX")
    assert look.discover().gpus[0].holder is Holder.KERNEL
    settled(made)
    assert look.discover().gpus[0].holder is None


def test_real_device_files_are_where_the_kernel_puts_them(tmp_path: Path) -> None:
    """Without a pose they are below /dev of the host, whether this process sees them or not."""
    machine(tmp_path)
    found = AmdDiscovery(Roots(sysfs=tmp_path / "sys")).discover()
    assert found.gpus[0].device_files == (
        DeviceFile(host_path="/dev/dri/renderD128", container_path="/dev/dri/renderD128"),
    )
    assert not found.gpus[0].simulated


def test_figures_are_not_to_be_had(tmp_path: Path) -> None:
    """The kernel counts engine time by open file, which is none of the figures that the arbiter wants."""
    machine(tmp_path)
    assert discovery(tmp_path).figures(GpuUuid("GPU-1"), since_us=0) is None
    assert discovery(tmp_path).name == "amd"


def test_hardware_without_its_driver_is_missed_and_none_is_not(tmp_path: Path) -> None:
    """No amdgpu is an error with advice; whether that matters says the bus."""
    with pytest.raises(DriverError, match="amdgpu is not loaded"):
        discovery(tmp_path).discover()
    assert not discovery(tmp_path).present()
    machine(tmp_path)
    assert discovery(tmp_path).present()
    (tmp_path / "dev/kfd").unlink()
    with pytest.raises(DriverError, match="no /dev/kfd"):
        discovery(tmp_path).discover()


def test_what_older_kernels_do_not_say_is_made_up_for(tmp_path: Path) -> None:
    """Identity by address, product by PCI id, size by memory banks, render node by the card's directory, no version."""
    made = machine(tmp_path)
    for name in ("unique_id", "product_name", "mem_info_vram_total"):
        (made.directory(FIRST) / name).unlink()
        (made.directory(SECOND) / name).unlink()
    (made.directory(SECOND) / "device").write_text("0xffff\n")
    (made.directory(SECOND) / "numa_node").write_text("-1\n")
    (tmp_path / "sys/module/amdgpu/version").unlink()
    for number_ in (1, 2):
        properties = made.node(number_) / "properties"
        kept = [line for line in properties.read_text().splitlines() if not line.startswith("drm_render_minor")]
        properties.write_text("\n".join(kept))
    mi300x, mi210 = discovery(tmp_path).discover().gpus
    assert (mi300x.uuid, mi300x.product_name, mi300x.memory_bytes) == (
        f"PCI-{FIRST}",
        "AMD Instinct MI300X",
        196592 << 20,
    )
    assert (mi300x.driver_version, mi300x.device_files) == (None, (posing("dri/renderD128"),))
    assert (mi210.product_name, mi210.brand, mi210.numa_node) == ("AMD gfx90a", None, None)


def _forget(made: AmdMachine, name: str) -> None:
    (made.directory(SECOND) / name).unlink()
    (made.node(2) / "mem_banks/0/properties").unlink()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda made: (made.node(2) / "properties").unlink(), "KFD does not list it"),
        (lambda made: (made.node(2) / "properties").write_bytes(b"\xff\x00" * 99), "KFD does not list it"),
        (lambda made: _forget(made, "mem_info_vram_total"), "does not report memory"),
        (lambda made: (made.root / "dev/dri/renderD129").unlink(), "not all of its render nodes /dev/dri/renderD129"),
    ],
)
def test_a_card_that_cannot_be_used_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: object, why: str
) -> None:
    """One warning names it and the reason, however often one looks, and the others are offered."""
    made = machine(tmp_path)
    assert callable(harm)
    harm(made)
    look = discovery(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [gpu.pci_address for gpu in look.discover().gpus] == [FIRST]
        assert [gpu.pci_address for gpu in look.discover().gpus] == [FIRST]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"AMD GPU {SECOND} is left out: ")
    assert why in record.getMessage()


def test_a_partition_without_a_known_render_node_makes_the_card_unusable(tmp_path: Path) -> None:
    """The directory of a cut card names one render node only, so that guessing would give a container too little."""
    made = settled(machine(tmp_path, mode="CPX"))
    properties = made.node(3) / "properties"
    properties.write_text(properties.read_text().replace("drm_render_minor", "drm_render"))
    assert [gpu.pci_address for gpu in discovery(tmp_path).discover().gpus] == [SECOND]


def test_a_topology_that_changes_all_the_time_is_not_believed(tmp_path: Path) -> None:
    """Half of the old nodes and half of the new ones would be a machine that never was."""
    made = machine(tmp_path)
    generation = made.topology / "generation_id"
    generation.unlink()
    generation.symlink_to("/proc/sys/kernel/random/uuid")
    with pytest.raises(DriverError, match="changed while it was read"):
        read_nodes(made.topology)


@pytest.mark.parametrize(
    ("version", "name"), [(90402, "gfx942"), (90010, "gfx90a"), (110001, "gfx1101"), (90006, "gfx906")]
)
def test_architectures_are_named_as_rocm_names_them(version: int, name: str) -> None:
    """Minor version and stepping are hexadecimal digits."""
    assert gfx_name(version) == name


@given(st.dictionaries(st.from_regex(r"[a-z_0-9]{1,20}", fullmatch=True), st.integers(0, 2**64 - 1)))
def test_properties_are_read_as_they_were_written(values: dict[str, int]) -> None:
    """Every unsigned 64-bit number survives, above what an int64 holds too."""
    assert fields("".join(f"{name} {value}\n" for name, value in values.items())) == values


@given(st.text())
def test_no_text_is_too_strange_for_properties(content: str) -> None:
    """Whatever a file holds, what is read of it are unsigned 64-bit-sized decimal numbers."""
    assert all(0 <= value < 10**20 for value in fields(content).values())


@given(st.binary(max_size=200))
def test_no_file_is_too_strange_to_be_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Numbers are numbers or nothing, and nothing raises."""
    path = tmp_path_factory.mktemp("file") / "value"
    path.write_bytes(content)
    decimal, hexa = number(path), hexadecimal(path)
    assert decimal is None or 0 <= decimal < 10**20
    assert hexa is None or 0 <= hexa < 2**64


def test_what_is_no_file_says_nothing(tmp_path: Path) -> None:
    """A directory, a loop of links, nothing at all, and a name that no file can have."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "loop", tmp_path / "absent", tmp_path / "nul\0"):
        assert text(path) is None
    (tmp_path / "value").write_text("0x740F\n")
    assert hexadecimal(tmp_path / "value") == 0x740F
