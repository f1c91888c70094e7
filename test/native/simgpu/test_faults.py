"""Faults on command: XIDs, memory errors, heat, lost cards and drivers, as NVML and CUDA tell of them."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pynvml
import pytest
from native.simgpu.node import MIB, Node

from native.simgpu.nvml import Nvml, nvml_session

XID = pynvml.nvmlEventTypeXidCriticalError
SINGLE, DOUBLE = pynvml.nvmlEventTypeSingleBitEccError, pynvml.nvmlEventTypeDoubleBitEccError
MIG_CHANGED = 0x100
LOST = pynvml.NVML_ERROR_GPU_IS_LOST
TIMEOUT = pynvml.NVML_ERROR_TIMEOUT
NO_INSTANCE = 0xFFFFFFFF
UNAVAILABLE, ECC, ILLEGAL_ADDRESS, UNKNOWN = 46, 214, 700, 999
WAIT_MS = 20000


def inject(node: Node, *arguments: str) -> None:
    """Run `simctl inject`."""
    done = node.simctl("inject", "--root", node.root, *arguments)
    assert done.status == 0, done.err


@pytest.fixture
def nvml(node: Node) -> Iterator[Nvml]:
    """A session on the node with two A100 cards."""
    with nvml_session(node) as session:
        yield session


def watch(nvml: Nvml, card: Any, types: int) -> Any:
    """An event set that is registered for those events of a card."""
    events = nvml.call("EventSetCreate")
    nvml.call("DeviceRegisterEvents", card, types, events)
    return events


def ask(client: subprocess.Popen[str]) -> dict[str, int]:
    """Let the client try one call of each kind."""
    assert client.stdin is not None
    assert client.stdout is not None
    print("go", file=client.stdin, flush=True)
    answer: dict[str, int] = json.loads(client.stdout.readline())
    return answer


# ---- events -------------------------------------------------------------------------------------------------------------


def test_an_xid_wakes_all_who_wait_for_it(node: Node) -> None:
    """Two processes that wait hear of the XID of their card, with its number; one registered for the other card does not."""
    with nvml_session(node) as first, nvml_session(node) as second, nvml_session(node) as other:
        sets = [watch(session, session.card(), XID) for session in (first, second)]
        foreign = watch(other, other.card(1), XID)
        for session, events in zip((first, second), sets, strict=True):
            session.send("nvmlEventSetWait_v2", events, WAIT_MS)
        inject(node, "--card", "0", "--xid", "63")
        for session in (first, second):
            event = session.receive()["value"]
            assert (event["eventType"], event["eventData"], event["gpuInstanceId"]) == (XID, 63, NO_INSTANCE)
        assert other.error("EventSetWait_v2", foreign, 0) == TIMEOUT


def test_events_come_once_and_in_order(node: Node, nvml: Nvml) -> None:
    """Events since the registration are kept until they are fetched; each is delivered once, others than asked for never."""
    inject(node, "--xid", "13")
    events = watch(nvml, nvml.card(), XID | DOUBLE)
    inject(node, "--xid", "31")
    inject(node, "--ecc", "single")
    inject(node, "--ecc", "double", "--count", "2")
    inject(node, "--xid", "48")
    seen = [nvml.call("EventSetWait_v2", events, WAIT_MS) for _ in range(3)]
    assert [(event["eventType"], event["eventData"]) for event in seen] == [(XID, 31), (DOUBLE, 0), (XID, 48)]
    assert nvml.error("EventSetWait_v2", events, 1) == TIMEOUT
    nvml.call("EventSetFree", events)


def test_unsupported_events_are_refused(make_node: Callable[..., Node]) -> None:
    """A T4 has no MIG to change; what it supports can be registered."""
    with nvml_session(make_node("--model", "T4")) as nvml:
        card = nvml.card()
        events = nvml.call("EventSetCreate")
        supported = nvml.call("DeviceGetSupportedEventTypes", card)
        assert supported & (XID | SINGLE | DOUBLE) == XID | SINGLE | DOUBLE
        assert nvml.error("DeviceRegisterEvents", card, MIG_CHANGED, events) == pynvml.NVML_ERROR_NOT_SUPPORTED
        nvml.call("DeviceRegisterEvents", card, supported, events)


def test_changes_of_mig_are_events(nvml: Nvml) -> None:
    """The mode and each instance that comes or goes is told."""
    card = nvml.card()
    events = watch(nvml, card, MIG_CHANGED)
    nvml.call("DeviceSetMigMode", card, 1)
    nvml.call("GpuInstanceDestroy", nvml.call("DeviceCreateGpuInstance", card, 19))
    assert [nvml.call("EventSetWait_v2", events, WAIT_MS)["eventType"] for _ in range(3)] == [MIG_CHANGED] * 3
    assert nvml.error("EventSetWait_v2", events, 0) == TIMEOUT


def test_a_flood_of_events_loses_the_oldest(node: Node, nvml: Nvml) -> None:
    """Who does not fetch loses what the ring overwrites, and gets the newest."""
    card = nvml.card()
    nvml.call("DeviceSetMigMode", card, 1)
    events = watch(nvml, card, XID | MIG_CHANGED)
    for _ in range(150):
        nvml.call("GpuInstanceDestroy", nvml.call("DeviceCreateGpuInstance", card, 19))
    inject(node, "--xid", "94")
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["eventType"] != XID:
        seen.append(nvml.call("EventSetWait_v2", events, WAIT_MS))
    assert len(seen) == 256
    assert seen[-1]["eventData"] == 94


def test_an_xid_of_a_process_names_its_instance(make_node: Callable[..., Node]) -> None:
    """Under MIG the event says which GPU instance and compute instance the process worked on."""
    node = make_node("--model", "A100", "--mig", "1g.10gb")
    with nvml_session(node) as nvml, node.holding(MIB) as holder:
        events = watch(nvml, nvml.card(), XID)
        inject(node, "--xid", "31", "--pid", str(holder.pid))
        event = nvml.call("EventSetWait_v2", events, WAIT_MS)
        (instance,) = node.cards()[0]["mig"]["instances"]
        assert (event["gpuInstanceId"], event["computeInstanceId"]) == (instance["id"], 0)
    missing = node.simctl("inject", "--root", node.root, "--xid", "31", "--pid", "1")
    assert "no process of that id" in missing.err


# ---- errors of programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("xid", "code"), [(31, ILLEGAL_ADDRESS), (48, ECC), (94, ECC), (63, 0)])
def test_an_error_sticks_to_the_process(node: Node, xid: int, code: int) -> None:
    """After the XID each call of the process on the card ends with CUDA's code for it, for ever; a new process is well."""
    with node.running_client("faulty") as client:
        assert set(ask(client).values()) == {0}
        inject(node, "--xid", str(xid))
        assert set(ask(client).values()) == {code}
        assert set(ask(client).values()) == {code}
    with node.running_client("faulty") as client:
        assert set(ask(client).values()) == {0}


def test_an_error_can_be_one_process_s_alone(node: Node) -> None:
    """With `--pid` the others go on."""
    with node.running_client("faulty") as hit, node.running_client("faulty") as spared:
        inject(node, "--xid", "13", "--pid", str(hit.pid))
        assert set(ask(hit).values()) == {719}
        assert set(ask(spared).values()) == {0}


def test_a_lost_card_is_lost_to_everybody(node: Node, nvml: Nvml) -> None:
    """NVML says GPU_IS_LOST of it, to waiters too after XID 79; CUDA's contexts are broken and new ones unavailable."""
    cards = nvml.card(), nvml.card(1)
    events = watch(nvml, cards[0], XID)
    with node.running_client("faulty") as client:
        assert node.simctl("lose", "--root", node.root, "--card", "0").status == 0
        assert ask(client) == {"allocate": UNKNOWN, "copy": UNKNOWN, "synchronize": UNKNOWN, "context": UNAVAILABLE}
        assert nvml.call("EventSetWait_v2", events, WAIT_MS)["eventData"] == 79
        assert nvml.error("EventSetWait_v2", events, WAIT_MS) == LOST
        assert nvml.error("DeviceGetMemoryInfo", cards[0]) == LOST
        assert nvml.error("DeviceGetHandleByIndex", 0) == LOST
        assert nvml.call("DeviceGetCount") == 2
        assert nvml.call("DeviceGetMemoryInfo", cards[1])["used"] == 0
        assert node.simctl("restore", "--root", node.root).status == 0
        assert nvml.call("DeviceGetMemoryInfo", cards[0])["used"] > 0
        assert ask(client)["allocate"] == UNKNOWN
    with node.running_client("faulty") as client:
        assert set(ask(client).values()) == {0}


def test_a_card_that_is_gone_is_not_counted(node: Node) -> None:
    """Off the bus, neither library enumerates it; restored, it is there again."""
    left = node.cards()[1]["uuid"]
    assert node.simctl("lose", "--root", node.root, "--card", "0", "--gone").status == 0
    assert [device["uuid"] for device in node.client("cuda_discovery").json["devices"]] == [left]
    assert [card["uuid"] for card in node.client("nvml_discovery").json["cards"]] == [left]
    assert node.simctl("restore", "--root", node.root, "--card", "0").status == 0
    assert len(node.client("nvml_discovery").json["cards"]) == 2


def test_a_driver_that_is_unloaded_or_of_another_version(node: Node) -> None:
    """Without module NVML says DRIVER_NOT_LOADED and CUDA finds nothing; with another one the versions do not match."""
    with node.holding(MIB):
        assert "processes use the driver" in node.simctl("unload", "--root", node.root).err
    states = {
        ("unload",): (100, pynvml.NVML_ERROR_DRIVER_NOT_LOADED),
        ("reload", "--driver-version", "570.00.01"): (803, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        ("reload",): (0, 0),
    }
    with nvml_session(node) as nvml:
        card = nvml.card()
        for (command, *arguments), (cuda, code) in states.items():
            assert node.simctl(command, "--root", node.root, *arguments).status == 0
            assert node.client("cuda_discovery").json["error"] == cuda
            assert node.client("nvml_discovery").json["error"] == code
            assert nvml.error("DeviceGetTemperature", card, 0) == code


# ---- health -------------------------------------------------------------------------------------------------------------


def test_memory_errors_are_counted(node: Node, nvml: Nvml) -> None:
    """ECC counts, remapped rows and retired pages are what was injected, by every way that NVML has to ask."""
    card = nvml.card()
    inject(node, "--ecc", "single", "--count", "5", "--remapped", "uncorrectable")
    inject(node, "--ecc", "double", "--remapped", "pending", "--retired", "double")
    assert [nvml.call("DeviceGetTotalEccErrors", card, kind, 0) for kind in (0, 1)] == [5, 1]
    assert nvml.call("DeviceGetMemoryErrorCounter", card, 1, 1, pynvml.NVML_MEMORY_LOCATION_DRAM) == 1
    assert nvml.call("DeviceGetMemoryErrorCounter", card, 1, 1, pynvml.NVML_MEMORY_LOCATION_L2_CACHE) == 0
    assert nvml.call("DeviceGetRemappedRows", card) == [0, 5, 1, 0]
    assert len(nvml.call("DeviceGetRetiredPages", card, 1)) == 1
    fields = [pynvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL, pynvml.NVML_FI_DEV_REMAPPED_UNC]
    values = nvml.call("DeviceGetFieldValues", card, fields)
    assert [value["value"]["ullVal"] for value in values] == [5, 5]
    assert nvml.call("DeviceGetTotalEccErrors", nvml.card(1), 0, 0) == 0
    inject(node, "--none")
    assert nvml.call("DeviceGetTotalEccErrors", card, 0, 0) == 0


def test_heat_and_clocks_are_what_they_are_set_to(node: Node, nvml: Nvml) -> None:
    """Temperature, clock, power and the reasons of throttling follow at once, on that card alone."""
    card = nvml.card()
    cool = nvml.call("DeviceGetTemperature", card, 0)
    inject(node, "--temperature", "91", "--clock", "210", "--power", "399", "--throttle", "hw-thermal,power-cap")
    assert nvml.call("DeviceGetTemperature", card, 0) == 91
    assert nvml.call("DeviceGetClockInfo", card, pynvml.NVML_CLOCK_SM) == 210
    assert nvml.call("DeviceGetMaxClockInfo", card, pynvml.NVML_CLOCK_SM) == 1410
    assert nvml.call("DeviceGetPowerUsage", card) == 399_000
    assert nvml.call("DeviceGetCurrentClocksThrottleReasons", card) == 0x44
    assert nvml.call("DeviceGetTemperature", nvml.card(1), 0) == cool


@pytest.mark.parametrize(
    "arguments",
    [
        ("inject", "--xid", "x"),
        ("inject", "--ecc", "triple"),
        ("inject", "--throttle", "mood"),
        ("lose", "--xid", "79"),
        ("mig", "dance"),
        ("mig",),
    ],
)
def test_a_wrong_fault_is_explained(node: Node, arguments: tuple[str, ...]) -> None:
    """A wrong command line ends with status 2 and words."""
    done = node.simctl(*arguments[:1], *arguments[1:], "--root", node.root)
    assert done.status == 2
    assert "usage" in done.err
