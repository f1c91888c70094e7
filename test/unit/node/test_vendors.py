"""Several vendors on one node."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest
from unit.node.test_device_monitor import Memory, Sensor

from hami_dra._lib.threads import Group
from hami_dra.core.device_health import Verdict
from hami_dra.core.errors import DriverError, PartitionRefused
from hami_dra.core.figures import Figures
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.inventory import DriverFiles, Inventory, MigSupport, Partition
from hami_dra.node.device_monitor import DeviceMonitor
from hami_dra.node.discovery import Discovery
from hami_dra.node.ports import HealthSensor
from hami_dra.node.vendors import Vendors
from hami_dra.testing.gpus import A100_PROFILES, gpu
from hami_dra.testing.partitions import CuttableCards

FIGURES = Figures(at_us=1, periods=1, busy={7: 0.5})


class FakeVendor:
    """A vendor with one card, unless a test breaks it."""

    def __init__(self, name: str, *, index: int = 0, here: bool = True) -> None:
        self.name = name
        self.here = here
        self.index = index
        self.broken = ""
        self.partitions: CuttableCards | None = CuttableCards(self.discover) if name == "nvidia" else None

    def present(self) -> bool:
        """As the test says."""
        return self.here

    def discover(self) -> Inventory:
        """One card, or the error."""
        if self.broken:
            raise DriverError(self.broken)
        mig = MigSupport(enabled=False, switchable=True, profiles=A100_PROFILES)
        card = replace(gpu(self.index, mig=mig), vendor=self.name, uuid=GpuUuid(f"{self.name}-{self.index}"))
        return Inventory(gpus=(card,), drivers={self.name: DriverFiles(environment=((self.name, "void"),))})

    def sensor(self) -> HealthSensor | None:
        """Only the one vendor has one."""
        return Sensor() if self.name == "nvidia" else None

    def memory(self, uuid: GpuUuid, *, partition: GpuUuid | None = None) -> Mapping[int, int] | None:
        """The same for every card of its own."""
        assert uuid == f"{self.name}-{self.index}"
        return {7 if partition is None else 8: self.index}

    def figures(self, uuid: GpuUuid, *, since_us: int) -> Figures | None:
        """The same for every card of its own."""
        assert uuid == f"{self.name}-{self.index}"
        assert since_us == 3
        return FIGURES


def names(inventory: Inventory) -> list[str]:
    """Vendors of the cards, in the inventory's order."""
    return [card.vendor for card in inventory.gpus]


def test_the_cards_of_all_vendors_are_one_inventory() -> None:
    """In PCI order, with the driver files of each vendor, whoever was asked first."""
    found = Vendors([FakeVendor("amd", index=1), FakeVendor("nvidia")])()
    assert names(found) == ["nvidia", "amd"]
    assert sorted(found.drivers) == ["amd", "nvidia"]
    assert not found.failures


def test_a_vendor_that_fails_hides_no_card_of_another(caplog: pytest.LogCaptureFixture) -> None:
    """It keeps its own as they were last seen, its failure is said once and in the inventory, and a later look heals it."""
    nvidia, amd = FakeVendor("nvidia"), FakeVendor("amd", index=1)
    vendors = Vendors([nvidia, amd])
    vendors()
    amd.broken = "amdgpu is gone"
    with caplog.at_level(logging.WARNING):
        assert names(vendors()) == ["nvidia", "amd"]
        assert vendors().failures == {"amd": "amdgpu is gone"}
    assert [r.getMessage() for r in caplog.records] == [
        "cards of amd cannot be looked at, it is tried again: amdgpu is gone"
    ]
    amd.broken = ""
    assert not vendors().failures


def test_a_vendor_whose_hardware_is_not_here_is_not_missed() -> None:
    """Its driver does not answer, which is as it should be; where the hardware is there, it is a failure."""
    absent = FakeVendor("amd", here=False)
    absent.broken = "amdgpu is not loaded"
    vendors = Vendors([FakeVendor("nvidia"), absent])
    assert not vendors().failures
    absent.here = True
    assert vendors().failures == {"amd": "amdgpu is not loaded"}


@pytest.mark.parametrize(("here", "why"), [(True, "no libnvidia-ml.so.1"), (False, "no libnvidia-ml.so.1; no amdgpu")])
def test_where_nobody_answers_nothing_is_known(*, here: bool, why: str) -> None:
    """The look fails; it is about the vendors that are in the machine, or about all where none is."""
    nvidia, amd = FakeVendor("nvidia", here=here), FakeVendor("amd", here=False)
    nvidia.broken, amd.broken = "no libnvidia-ml.so.1", "no amdgpu"
    with pytest.raises(DriverError) as error:
        Vendors([nvidia, amd])()
    assert str(error.value) == why


def test_figures_come_from_the_vendor_of_the_card() -> None:
    """A card that nobody has seen has none."""
    vendors = Vendors([FakeVendor("nvidia"), FakeVendor("amd", index=1)])
    assert vendors.figures(GpuUuid("amd-1"), since_us=3) is None
    vendors()
    assert vendors.figures(GpuUuid("amd-1"), since_us=3) == FIGURES
    assert vendors.figures(GpuUuid("other"), since_us=3) is None
    assert vendors.memory(GpuUuid("amd-1")) == {7: 1}
    assert vendors.memory(GpuUuid("amd-1"), partition=GpuUuid("part")) == {8: 1}
    assert vendors.memory(GpuUuid("other")) is None


def test_a_failure_of_one_vendor_is_tried_again_soon_and_makes_only_its_own_cards_unknown() -> None:
    """The others are published, healthy, and looked at as before."""
    nvidia, amd = FakeVendor("nvidia"), FakeVendor("amd", index=1)
    with Group("discovery") as group:
        discovery = Discovery(discover=Vendors([nvidia, amd]), group=group)
        assert discovery.look()
        amd.broken = "amdgpu is gone"
        assert not discovery.look()
        monitor = DeviceMonitor(sensors={}, discovery=discovery, memory=Memory(), boot="b", group=group)
        health = {entry.name: entry for entry in monitor.health()}
    assert health[DeviceName(gpu(0).name)].verdict is Verdict.HEALTHY
    assert health[DeviceName(gpu(1).name)].verdict is Verdict.UNKNOWN
    assert "amdgpu is gone" in health[DeviceName(gpu(1).name)].message


def test_only_vendors_that_tell_of_health_are_asked_for_it() -> None:
    """Of the cards of the others it is known that they are there."""
    assert set(Vendors([FakeVendor("nvidia"), FakeVendor("amd", index=1)]).sensors()) == {"nvidia"}


def test_partitions_are_made_by_the_vendor_of_the_card() -> None:
    """One that cuts nothing has none and refuses, and of a card that nobody has seen nothing can be said."""
    nvidia = FakeVendor("nvidia")
    vendors = Vendors([FakeVendor("amd", index=1), nvidia])
    place = Partition(gpu=gpu().name, profile="1g.10gb", start=3)
    with pytest.raises(DriverError, match=f"device {gpu().name} is not known"):
        vendors.remove(place)
    vendors()
    assert vendors.ensure(place, make=True).uuid == f"MIG-{place.name}"
    assert list(vendors.live(gpu().name)) == [place]
    vendors.remove(place)
    vendors.make_whole(gpu().name)
    other = Partition(gpu=gpu(1).name, profile="1g.10gb", start=3)
    with pytest.raises(PartitionRefused, match="nothing cuts cards of this vendor"):
        vendors.ensure(other, make=True)
    vendors.remove(other)
    vendors.make_whole(other.gpu)
    assert not vendors.live(other.gpu)
