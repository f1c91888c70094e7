"""What the doctor says of isolation MPS and TimeSlicing, in a cluster and on a node."""

from dataclasses import replace
from typing import Any

import pytest
from unit.core.clusters import HEALTHY, WORKLOADS, claim, device_class, plugin, published, workload

from hami_dra.api.opaque import Isolation
from hami_dra.core.allocation import read_allocation
from hami_dra.core.doctor import Finding, Level, judge_cluster
from hami_dra.core.doctor.isolation import PROGRAMS, IsolationView, judge_isolation
from hami_dra.core.doctor.view import Unknown
from hami_dra.core.ids import DeviceName, GpuUuid
from hami_dra.core.mps import Answer, Wanted
from hami_dra.core.plan import plan_claim
from hami_dra.core.record import Entry, Phase
from hami_dra.core.resolve import resolve
from hami_dra.testing import gpus

WANTS = {"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig", "isolation": "MPS"}
CONFIG = {"source": "FromClaim", "opaque": {"driver": "gpu.hami.io", "parameters": WANTS}}
RESULT = {"request": "gpu", "driver": "gpu.hami.io", "pool": "node-1/gpu", "device": "gpu-0"}
TAINT = {"key": "gpu.hami.io/mps", "value": "ended", "effect": "NoSchedule"}
KEPT = [*WORKLOADS, workload("mps")]
KEEPER = plugin(component="mps")


def user(*, ready: str = "True", reason: str = "Prepared") -> dict[str, Any]:
    """An allocated claim with an MPS share."""
    condition = {"type": "Ready", "status": ready, "reason": reason, "message": "it ended"}
    others = {"driver": "other", "device": "gpu-0", "conditions": [condition]}
    devices = [others, {"driver": "gpu.hami.io", "device": "gpu-0", "conditions": [condition]}]
    allocation = {"devices": {"results": [RESULT], "config": [CONFIG]}}
    found = claim(allocation=allocation, devices=devices)
    found["metadata"]["uid"] = "uid"
    return found


def wisher(driver: str = "gpu.hami.io", parameters: Any = None) -> dict[str, Any]:
    """One that waits for its allocation."""
    found = claim()
    opaque = {"driver": driver, "parameters": WANTS if parameters is None else parameters}
    found["spec"]["devices"]["config"] = [{"opaque": opaque}, {}]
    return found


def look(**seen: Any) -> list[tuple[str, str]]:
    """Level and finding of the check, of the healthy cluster with something changed."""
    found = [each for each in judge_cluster(replace(HEALTHY, **seen)) if each.check == "mps"]
    assert all(bool(each.advice) == (each.level is not Level.OK) for each in found)
    return [(str(each.level), each.found) for each in found]


def test_nobody_is_told_of_daemons_that_nobody_wants() -> None:
    """Where MPS is neither wanted nor installed; other drivers' words for it are none of ours."""
    quiet = [("ok", "no claim and no DeviceClass wants isolation MPS, and hami-dra mps is not installed")]
    assert look() == quiet
    assert look(claims=[wisher("other"), wisher(parameters="text"), wisher(parameters={"isolation": "Guard"})]) == quiet
    assert look(classes=Unknown("x")) == quiet
    unread = user()
    opaque = {"driver": "gpu.hami.io", "parameters": 1}
    unread["status"]["allocation"]["devices"]["config"] = [{"source": "FromClaim", "opaque": opaque}]
    assert look(claims=[unread]) == quiet


@pytest.mark.parametrize(
    ("seen", "who"),
    [
        ({"classes": [device_class("fast.gpu.hami.io", config=WANTS)]}, "DeviceClass fast.gpu.hami.io"),
        ({"claims": [wisher()]}, "ml/train"),
        ({"claims": [user()]}, "ml/train"),
    ],
)
def test_a_wish_for_mps_that_is_not_installed_is_a_problem(seen: dict[str, Any], who: str) -> None:
    """Of a class, of a claim that waits, of one that is allocated; the advice is the value of the chart."""
    assert look(**seen) == [("problem", f"{who}: isolation MPS, but hami-dra mps is not installed")]
    (found,) = (each for each in judge_cluster(replace(HEALTHY, **seen)) if each.check == "mps")
    assert "mps.enabled=true" in found.advice


def test_daemons_that_run_where_they_are_needed_are_fine() -> None:
    """With claims and without."""
    pods = [plugin(), KEEPER]
    assert look(workloads=KEPT, pods=pods, claims=[user()]) == [
        ("ok", "hami-dra mps runs on 1 nodes, isolation MPS: ml/train")
    ]
    assert look(workloads=KEPT, pods=pods) == [("ok", "hami-dra mps runs on 1 nodes, isolation MPS: no claim")]


def test_a_node_without_its_keeper_is_named() -> None:
    """A problem where claims are, a warning where they would be: no pod, or one that is not ready."""
    missing = "node-1: ml/train: isolation MPS, but hami-dra mps does not run there"
    assert look(workloads=KEPT, claims=[user()]) == [("problem", missing)]
    pods = [plugin(), plugin(component="mps", ready=False)]
    assert look(workloads=KEPT, pods=pods) == [
        ("warning", "node-1: pod plugin-node-1 is not ready: no claim with isolation MPS could be prepared")
    ]


def test_a_daemon_that_is_down_is_told_with_who_needs_it() -> None:
    """By the condition of its claims, or by the taint of its card alone; what to do is in the check of claims, too."""
    pods, said = [plugin(), KEEPER], "node-1: the MPS control daemon of gpu-0 takes no clients"
    ill = user(ready="False", reason="MpsNotReady")
    assert look(workloads=KEPT, pods=pods, claims=[ill]) == [("problem", f"{said}, needed by ml/train")]
    assert look(workloads=KEPT, pods=pods, slices=[published(taints=[TAINT])]) == [("problem", said)]
    assert len(look(workloads=KEPT, pods=pods, claims=[ill], slices=[published(taints=[TAINT])])) == 1
    assert look(workloads=KEPT, pods=pods, slices=Unknown("x"))[0][0] == "ok"
    assert look(workloads=KEPT, pods=pods, claims=[user(ready="False", reason="PrepareFailed")])[0][0] == "ok"
    found = judge_cluster(replace(HEALTHY, workloads=KEPT, pods=pods, claims=[ill]))
    assert any(each.check == "claims" and "check mps" in each.advice for each in found)


@pytest.mark.parametrize("field", ["workloads", "pods", "claims"])
def test_what_could_not_be_looked_at_is_said(field: str) -> None:
    """With the server's words."""
    seen: dict[str, Any] = {field: Unknown("403")}
    assert look(**seen) == [("warning", "not looked at: 403")]


CARD = gpus.gpu().name
SERVING = Answer(serves=Wanted(uuid=GpuUuid("u"), percent=30, memory_bytes=1), ends=0)


def row(isolation: str) -> Entry:
    """A prepared claim with a share of that isolation."""
    parameters = WANTS | {"isolation": isolation}
    entry = {"source": "FromClaim", "opaque": {"driver": "gpu.hami.io", "parameters": parameters}}
    allocation = read_allocation(gpus.allocated_claim("train", gpus.share_result(cores=0), config=[entry]))
    return Entry(
        phase=Phase.COMPLETED, boot="boot-1", plan=plan_claim(allocation, resolve(allocation), gpus.inventory())
    )


def on_node(view: IsolationView, *rows: Entry, nvidia: bool = True) -> list[Finding]:
    """What is said of the node."""
    return judge_isolation(view, rows, nvidia=nvidia, driver_root="/driver")


@pytest.mark.parametrize("mode", list(PROGRAMS))
def test_a_mode_takes_its_program_of_the_driver(mode: Isolation) -> None:
    """A warning while nobody uses the mode, a problem when somebody does; without NVIDIA's cards no word of it."""
    lacking = IsolationView(programs=set(PROGRAMS.values()) - {PROGRAMS[mode]}, kept=True, daemons={CARD: SERVING})
    (idle,) = (each for each in on_node(lacking) if each.level is not Level.OK)
    assert (idle.level, idle.found) == (
        Level.WARNING,
        f"{mode} on no card, and there is no {PROGRAMS[mode]} below /driver",
    )
    (used,) = (each for each in on_node(lacking, row(mode), nvidia=False) if each.level is not Level.OK)
    assert used.level is Level.PROBLEM
    assert used.found.startswith(f"{mode} on {CARD}, and there is no")
    (nothing,) = on_node(lacking, row("Guard"), nvidia=False)
    assert nothing.level is Level.OK


@pytest.mark.parametrize(
    ("kept", "daemons", "expected"),
    [
        (False, {CARD: None}, ("problem", f"MPS on {CARD}, but hami-dra mps does not run on this node")),
        (True, {}, ("problem", f"{CARD}: nobody asks for its MPS control daemon")),
        (True, {CARD: None}, ("problem", f"{CARD}: its MPS control daemon takes no clients: it is not started yet")),
        (
            True,
            {CARD: Answer(serves=None, ends=2, message="killed by signal 9")},
            ("problem", f"{CARD}: its MPS control daemon takes no clients: killed by signal 9 (it ended 2 times)"),
        ),
        (True, {CARD: SERVING}, ("ok", f"{CARD}: its MPS control daemon serves up to 30 percent a client")),
        (
            True,
            {CARD: replace(SERVING, ends=1)},
            ("ok", f"{CARD}: its MPS control daemon serves up to 30 percent a client, it ended 1 times"),
        ),
    ],
)
def test_each_daemon_that_is_needed_says_how_it_is(
    kept: bool,
    daemons: dict[DeviceName, Answer | None],
    expected: tuple[str, str],
) -> None:
    """No keeper, not asked for, not started, ended, serving."""
    view = IsolationView(programs=set(PROGRAMS.values()), kept=kept, daemons=daemons)
    last = on_node(view, row("MPS"))[-1]
    assert (str(last.level), last.found) == expected
    assert bool(last.advice) == (last.level is not Level.OK)
