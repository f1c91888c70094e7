"""What amdgpu's files say of the health of its cards."""

from pathlib import Path

import pytest

from hami_dra.core.device_health import Pulse
from hami_dra.core.errors import DriverUnloaded
from hami_dra.core.ids import DeviceName
from hami_dra.testing.amdgpu import MI210, MI300X, AmdCard, AmdMachine
from hami_dra.vendors.amd import AmdDiscovery, Roots
from hami_dra.vendors.amd.health import AmdSensor

FIRST, SECOND = DeviceName("gpu-0000-c1-00-0"), DeviceName("gpu-0000-c6-00-0")


@pytest.fixture
def machine(tmp_path: Path) -> AmdMachine:
    """An MI300X whose errors are counted, and an MI210 whose are not."""
    return AmdMachine(
        tmp_path, AmdCard(model=MI300X, pci="0000:c1:00.0", ras=True), AmdCard(model=MI210, pci="0000:c6:00.0")
    )


def sensor(machine: AmdMachine) -> AmdSensor:
    """The vendor's."""
    return AmdDiscovery(Roots(sysfs=machine.sysfs, devices=machine.root)).sensor()


def standing(pulse: Pulse) -> list[str]:
    """What the card says of itself."""
    return [f"{fault.key}={fault.value}:{fault.effect}" for fault in pulse.standing]


def test_cards_in_good_order_say_nothing(machine: AmdMachine) -> None:
    """One that counts no errors is not one without errors; nobody asks of cards that were never seen."""
    found = sensor(machine).pulses([FIRST, SECOND])
    assert found == {FIRST: Pulse(errors=0), SECOND: Pulse(errors=None)}
    assert sensor(machine).pulses([]) == {}


def test_corrected_errors_are_told_when_they_happen(machine: AmdMachine) -> None:
    """What was counted before anybody looked is not news; a driver that was loaded again counts anew."""
    asked, card = sensor(machine), machine.cards[0]
    told = []
    for card.corrected in (3, 3, 5, 0, 1):
        machine.write()
        asked.pulses([FIRST, SECOND])
        told.append([(name, fault.key, fault.value, fault.effect.value) for name, fault in asked.faults()])
    news = [(FIRST, "ecc", "corrected", "None")]
    assert told == [[], [], news, [], news]
    assert asked.faults() == []


def test_uncorrected_errors_keep_new_work_away_until_the_driver_is_loaded_again(machine: AmdMachine) -> None:
    """Then it counts from nothing."""
    asked, card = sensor(machine), machine.cards[0]
    card.uncorrected = 2
    machine.write()
    pulse = asked.pulses([FIRST])[FIRST]
    assert (standing(pulse), pulse.errors) == (["ecc=uncorrected:NoSchedule"], 2)
    card.uncorrected = 0
    machine.write()
    assert asked.pulses([FIRST])[FIRST] == Pulse(errors=0)


@pytest.mark.parametrize(
    ("pages", "found"),
    [("RR", []), ("RP", ["pages=pending:None"]), ("PF", ["pages=failed:NoSchedule", "pages=pending:None"])],
)
def test_bad_pages_count_until_they_are_retired(machine: AmdMachine, pages: str, found: list[str]) -> None:
    """A page that nobody can get is no harm; one that cannot be taken out is."""
    machine.cards[0].bad_pages = pages
    machine.write()
    assert standing(sensor(machine).pulses([FIRST])[FIRST]) == found


def test_a_card_without_its_driver_is_lost_and_the_others_are_not(machine: AmdMachine) -> None:
    """Unbound, or off the bus; it answers again when the driver has it."""
    asked = sensor(machine)
    machine.unbind("0000:c1:00.0")
    found = asked.pulses([FIRST, SECOND])
    assert [found[name].answers for name in (FIRST, SECOND)] == [False, True]
    machine.write()
    assert asked.pulses([FIRST])[FIRST].answers


def test_a_driver_that_is_not_loaded_is_an_error(machine: AmdMachine) -> None:
    """Discovery then finds out."""
    for pci in ("0000:c1:00.0", "0000:c6:00.0"):
        machine.unbind(pci)
    (machine.sysfs / "bus/pci/drivers/amdgpu").rmdir()
    with pytest.raises(DriverUnloaded, match="modprobe amdgpu"):
        sensor(machine).pulses([FIRST])


def test_files_of_another_form_say_nothing(machine: AmdMachine) -> None:
    """Kernels differ: what is not understood is no error."""
    ras = machine.directory("0000:c1:00.0") / "ras"
    (ras / "umc_err_count").write_text("ue\nce: many\n")
    (ras / "gpu_vram_bad_pages").write_text("nothing to see\n")
    assert sensor(machine).pulses([FIRST])[FIRST] == Pulse(errors=0)
