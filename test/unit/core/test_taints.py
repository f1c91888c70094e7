"""Which taints the health of devices makes."""

from dataclasses import replace
from typing import Literal

from hami_dra.api.k8s import DeviceTaint
from hami_dra.core.device_health import DeviceHealth, Effect, Ends, Fault, Verdict
from hami_dra.core.devices import cut_card
from hami_dra.core.ids import DeviceName
from hami_dra.core.inventory import Partition
from hami_dra.core.layout import Layout
from hami_dra.core.partitions import placements
from hami_dra.core.settings import CardMode, CardSettings
from hami_dra.core.taints import device_taints, taints_of
from hami_dra.testing.gpus import gpu, inventory

NAME = DeviceName("gpu-0000-17-00-0")
BROKEN = Fault(key="xid", value="48", effect=Effect.NO_SCHEDULE, ends=Ends.RESET, message="drain")
TOLD = Fault(key="xid", value="31", effect=Effect.NONE, ends=Ends.QUIET, message="page fault")


def device(*faults: Fault) -> DeviceHealth:
    """A device with these faults, the worst first."""
    return DeviceHealth(name=NAME, verdict=Verdict.UNHEALTHY, faults=faults)


def test_a_healthy_device_has_no_taints() -> None:
    """Not even an empty list of them."""
    assert device_taints([device()], informational=True) == {}
    assert device_taints([device(TOLD)], informational=False) == {}


def test_each_key_and_effect_is_one_taint_with_the_newest_value() -> None:
    """A fault that comes again, or another of its kind that weighs as much, writes as little as can be."""
    older = replace(BROKEN, value="74")
    assert device_taints([device(BROKEN, older, TOLD)], informational=True) == {
        NAME: (
            {"key": "gpu.hami.io/xid", "value": "48", "effect": "NoSchedule"},
            {"key": "gpu.hami.io/xid", "value": "31", "effect": "None"},
        )
    }


def test_what_only_tells_is_for_servers_that_know_the_effect() -> None:
    """Kubernetes up to 1.34 refuses a slice with the effect None."""
    (taint,) = device_taints([device(BROKEN, TOLD)], informational=False)[NAME]
    assert taint["effect"] == "NoSchedule"


def test_a_device_has_four_taints_at_most_and_they_are_the_worst() -> None:
    """More than that Kubernetes up to 1.34 does not take."""
    faults = [replace(BROKEN, key=f"kind-{number}") for number in range(6)]
    taints = device_taints([device(*faults)], informational=True)[NAME]
    assert [taint["key"] for taint in taints] == [f"gpu.hami.io/kind-{number}" for number in range(4)]


def tainted(*, part: str, effect: Literal["None", "NoSchedule"], as_card: bool = False) -> dict[str, list[str]]:
    """Effects of what keeps work away, by device of an A100 in partitions, with one fault of a partition."""
    card = inventory(mig=True).gpus[0]
    layout = Layout(mode=CardMode.SHARES, shared=True) if as_card else Layout(mode=CardMode.PARTITIONS)
    devices = cut_card(card, settings=CardSettings(), layout=layout).devices
    taint: DeviceTaint = {"key": "gpu.hami.io/xid", "value": "94", "effect": effect}
    found = taints_of(devices, {DeviceName(part): (taint,)})
    return {name: [taint["effect"] for taint in taints] for name, taints in found.items() if taints}


def test_what_is_wrong_with_a_partition_is_wrong_with_all_that_would_lie_there() -> None:
    """And with the whole card, and with nothing else."""
    card = inventory(mig=True).gpus[0]
    broken = Partition(gpu=gpu().name, profile="2g.20gb", start=2)
    (place,) = (each for each in placements(card) if each.partition == broken)
    beside = {each.partition.name for each in placements(card) if each.overlaps(place)}
    assert tainted(part=broken.name, effect="NoSchedule") == {name: ["NoSchedule"] for name in {gpu().name, *beside}}
    assert len(beside) < len(placements(card))
    assert tainted(part=broken.name, effect="NoSchedule", as_card=True) == {gpu().name: ["NoSchedule"]}


def test_what_only_tells_of_a_partition_is_told_of_it_alone() -> None:
    """A program's fault says nothing of the hardware."""
    broken = Partition(gpu=gpu().name, profile="2g.20gb", start=2).name
    assert tainted(part=broken, effect="None") == {broken: ["None"]}
    assert tainted(part=Partition(gpu=gpu(1).name, profile="2g.20gb", start=2).name, effect="NoSchedule") == {}


def test_of_a_card_and_its_partition_the_worst_four_are_said() -> None:
    """Each key and effect once, with the card's value where both have one."""
    name = Partition(gpu=gpu().name, profile="1g.10gb", start=0).name

    def taint(key: str, effect: Effect, value: str = "1") -> DeviceTaint:
        return {"key": key, "value": value, "effect": effect.value}

    found = taints_of(
        [{"name": name}],
        {
            gpu().name: (taint("a", Effect.NO_SCHEDULE), taint("b", Effect.NONE)),
            name: (
                taint("a", Effect.NO_SCHEDULE, "2"),
                taint("c", Effect.NO_EXECUTE),
                taint("d", Effect.NONE),
                taint("e", Effect.NONE),
            ),
        },
    )
    assert found[name] == [
        taint("c", Effect.NO_EXECUTE),
        taint("a", Effect.NO_SCHEDULE),
        taint("b", Effect.NONE),
        taint("d", Effect.NONE),
    ]
