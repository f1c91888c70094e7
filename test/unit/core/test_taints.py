"""Which taints the health of devices makes."""

from dataclasses import replace

from hami_dra.core.device_health import DeviceHealth, Effect, Ends, Fault, Verdict
from hami_dra.core.ids import DeviceName
from hami_dra.core.taints import device_taints

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
