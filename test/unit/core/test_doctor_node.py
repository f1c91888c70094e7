"""What the doctor says of a node."""

from dataclasses import replace
from typing import Any

import pytest
from unit.core.inventories import MIG, gpu, inventory

from hami_dra.core.allocation import read_allocation
from hami_dra.core.doctor import CHECKS, Level, judge_node
from hami_dra.core.doctor.isolation import PROGRAMS, IsolationView
from hami_dra.core.doctor.node import CdiView, GuardView, KernelView, NodeView, SocketView
from hami_dra.core.doctor.view import Unknown
from hami_dra.core.ids import ClaimUid
from hami_dra.core.inventory import Holder, Inventory
from hami_dra.core.plan import plan_claim
from hami_dra.core.record import Entry, Phase
from hami_dra.core.resolve import resolve
from hami_dra.testing import gpus

HERE = "boot-1"


def entry(name: str, *, phase: Phase = Phase.COMPLETED, boot: str = HERE) -> Entry:
    """A row of the ledger."""
    allocation = read_allocation(gpus.allocated_claim(name, gpus.share_result()))
    return Entry(phase=phase, boot=boot, plan=plan_claim(allocation, resolve(allocation), gpus.inventory()))


TRAIN, OTHER = entry("train"), entry("other")
UID, OTHER_UID = TRAIN.plan.uid, OTHER.plan.uid
HEALTHY = NodeView(
    driver_root="/",
    inventory=inventory(),
    left_out=(),
    sockets=SocketView(listening={"/reg.sock": True, "/dra.sock": True}, ready=True),
    cdi=CdiView(path="/var/run/cdi", obstacle="", changed_s=12.3, uids={UID}),
    ledger=[TRAIN],
    ledger_after=[TRAIN],
    shares={UID},
    boot=HERE,
    guard=GuardView(path="/state/guard", build="abc", builds={"abc"}, executable=True),
    isolation=IsolationView(programs=set(PROGRAMS.values())),
    kernel=KernelView(
        release="6.12.0",
        regions=(),
        open_files=1024,
        free={"/state": (1 << 30, 10_000)},
        sees_processes=True,
        attribution=True,
    ),
)


def look(check: str, **seen: Any) -> list[tuple[str, str]]:
    """Level and finding of a check, of the healthy node with something changed."""
    findings = judge_node(replace(HEALTHY, **seen))
    for each in findings:
        assert each.check in CHECKS
        assert bool(each.advice) == (each.level is not Level.OK)
    return [(str(each.level), each.found) for each in findings if each.check == check]


def test_of_a_healthy_node_there_is_nothing_to_do() -> None:
    """Every check of a node says what it found."""
    findings = judge_node(HEALTHY)
    assert {each.level for each in findings} == {Level.OK}
    assert [(each.check, each.found) for each in findings] == [
        ("driver", "nvidia, driver 570.124.06, CUDA 12.8, 1 libraries below /"),
        ("cards", "gpu-0000-17-00-0: NVIDIA A100-SXM4-80GB, 80Gi, shares held by the guard"),
        ("sockets", "registered with kubelet, published, and answering"),
        ("cdi", "/var/run/cdi can be written, 1 specs of ours, last changed 12 s ago"),
        ("ledger", "sound: 1 claims prepared, 0 on their way, 0 of an earlier boot"),
        ("guard", "build abc is installed"),
        ("isolation", "TimeSlicing on no card, and nvidia-smi is there"),
        ("isolation", "MPS on no card, and nvidia-cuda-mps-control is there"),
        ("kernel", "Linux 6.12.0, 1024 open files for the node plugin, no dmem"),
    ]
    assert list(dict.fromkeys(each.check for each in findings)) == list(CHECKS)[13:]


def test_a_driver_that_does_not_answer_is_quoted() -> None:
    """Of all vendors, or of one beside another."""
    assert look("driver", inventory=Unknown("no libnvidia-ml.so.1 below /")) == [
        ("problem", "no libnvidia-ml.so.1 below /")
    ]
    both = replace(inventory(), failures={"amd": "no amdgpu"})
    assert [level for level, _ in look("driver", inventory=both)] == ["problem", "ok"]
    assert look("driver", inventory=Inventory()) == [("ok", "no card of a vendor that is known is in this machine")]


def test_each_card_says_how_it_can_be_shared() -> None:
    """By the guard, by the kernel, or not; in partitions or not; and which are left out, and why."""
    cards = (
        gpu(mig=MIG),
        replace(gpu(1, mig=replace(MIG, enabled=True, switchable=False)), holder=Holder.KERNEL),
        replace(gpu(1), holder=None),
    )
    found = look("cards", inventory=Inventory(gpus=cards), left_out=["GPU 3 is left out: why"])
    assert [text.split("80Gi, ")[-1] for _, text in found] == [
        "shares held by the guard, partitioning off (can be switched while the node runs), 0 partitions",
        "shares of memory held by the kernel, partitioning on (takes a reset to switch), 0 partitions",
        "given whole: nothing could hold a share",
        "GPU 3 is left out: why",
    ]
    assert found[-1][0] == "warning"
    assert look("cards", inventory=Unknown("why")) == [("warning", "there is no card")]


@pytest.mark.parametrize(
    ("sockets", "expected"),
    [
        (SocketView(listening={"/a": False, "/b": True}, ready=True), ("problem", "nobody answers on /a")),
        (
            SocketView(listening={}, ready=Unknown("refused")),
            ("warning", "the node plugin does not say whether it is ready: refused"),
        ),
        (
            SocketView(listening={}, ready=False),
            ("problem", "the node plugin listens, but is not registered or has not published"),
        ),
    ],
)
def test_a_node_plugin_that_kubelet_does_not_find(sockets: SocketView, expected: tuple[str, str]) -> None:
    """Dead sockets, a plugin that does not answer, and one that is not registered."""
    assert look("sockets", sockets=sockets) == [expected]


def test_a_cdi_directory_that_cannot_be_written_keeps_every_claim_waiting() -> None:
    """And one whose age is unknown says nothing of it."""
    cdi = CdiView(path="/cdi", obstacle="the file system is read-only", changed_s=None, uids=())
    assert look("cdi", cdi=cdi) == [("problem", "/cdi: the file system is read-only")]
    assert look("cdi", cdi=replace(cdi, obstacle="")) == [("ok", "/cdi can be written, 0 specs of ours")]


def test_the_ledger_agrees_with_the_files() -> None:
    """What lacks and what is too much, by the claims' UIDs."""
    both = [TRAIN, OTHER]
    found = look("ledger", ledger=both, ledger_after=both, shares={UID, ClaimUid("x")})
    assert found == [
        ("ok", "sound: 2 claims prepared, 0 on their way, 0 of an earlier boot"),
        ("warning", f"prepared, but without a CDI spec: {OTHER_UID}"),
        ("warning", f"prepared, but without share files: {OTHER_UID}"),
        ("warning", "share files of claims that are not prepared: x"),
    ]
    cdi = replace(HEALTHY.cdi, uids={UID, ClaimUid("y")})
    assert look("ledger", cdi=cdi)[1:] == [("warning", "CDI specs of claims that are not prepared: y")]


def test_claims_that_come_and_go_during_the_look_are_no_fault() -> None:
    """Only what both readings of the ledger say counts; rows of another boot count for nothing."""
    started, old = entry("other", phase=Phase.STARTED), entry("old", boot="boot-0")
    quiet = [("ok", "sound: 1 claims prepared, 1 on their way, 1 of an earlier boot")]
    assert look("ledger", ledger=[TRAIN, started, old], ledger_after=[TRAIN, OTHER, old]) == quiet
    assert look("ledger", ledger=[TRAIN, OTHER, old], ledger_after=[TRAIN, old]) == quiet


def test_a_ledger_that_cannot_be_read_is_a_problem() -> None:
    """At the first reading or at the second."""
    for seen in ({"ledger": Unknown("damaged")}, {"ledger_after": Unknown("damaged")}):
        assert look("ledger", **seen) == [("problem", "damaged")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"build": Unknown("no library")}, ("problem", "no library")),
        ({"builds": {"old"}}, ("problem", "build abc is not installed in /state/guard")),
        ({"executable": False}, ("problem", "/state/guard lies on a file system that is mounted noexec")),
        ({"builds": {"abc", "old"}}, ("ok", "build abc is installed, beside 1 of other releases")),
    ],
)
def test_the_guard(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    """Missing, not installed, or where it cannot be loaded."""
    assert look("guard", guard=replace(HEALTHY.guard, **changes)) == [expected]


def test_what_of_the_kernel_gets_in_the_way() -> None:
    """Full disks, processes that cannot be seen, and no dmem controller for cards that it could hold."""
    kernel = replace(
        HEALTHY.kernel,
        free={"/a": (1 << 20, 10_000), "/b": (1 << 30, 3), "/c": (1 << 30, 10_000)},
        sees_processes=False,
        regions=("drm/1/vram", "drm/0/vram"),
        open_files=None,
    )
    amd = Inventory(gpus=(replace(gpu(), vendor="amd", holder=None),))
    assert look("kernel", kernel=kernel, inventory=amd) == [
        ("warning", "/a has room for 1Mi and 10000 files"),
        ("warning", "/b has room for 1Gi and 3 files"),
        ("warning", "the processes of other pods cannot be seen: shares are not told apart in the driver's figures"),
        ("warning", "no dmem controller for gpu-0000-17-00-0: given whole"),
        ("ok", "Linux 6.12.0, unknown open files for the node plugin, dmem for drm/0/vram, drm/1/vram"),
    ]
    assert [level for level, _ in look("kernel", inventory=Unknown("x"))] == ["ok"]
