"""What the doctor says of a cluster."""

from dataclasses import replace
from typing import Any

import pytest
from unit.core.clusters import (
    GOOD,
    HEALTHY,
    NOW,
    OLD,
    WORKLOADS,
    YOUNG,
    allocated,
    claim,
    device_class,
    lease,
    plugin,
    published,
    said,
    waiting,
    workload,
)

from hami_dra.core.doctor import CHECKS, Finding, Level, exit_status, judge_cluster, report_json, report_lines
from hami_dra.core.doctor.rights import account_rights, doctor_rights
from hami_dra.core.doctor.view import ClusterView, Unknown, installed
from hami_dra.core.layout import Server

DENIED = Unknown("GET x: 403 Forbidden")
CONSUMABLE, PARTITIONABLE, TAINTS = "DRAConsumableCapacity", "DRAPartitionableDevices", "DRADeviceTaints"


def look(check: str, **seen: Any) -> list[tuple[str, str]]:
    """Level and finding of a check, of the healthy cluster with something changed."""
    findings = judge_cluster(replace(HEALTHY, **seen))
    for each in findings:
        assert each.check in CHECKS
        assert bool(each.advice) == (each.level is not Level.OK)
    return [(str(each.level), each.found) for each in findings if each.check == check]


def test_of_a_healthy_cluster_there_is_nothing_to_do() -> None:
    """Every check of a cluster says what it found."""
    findings = judge_cluster(HEALTHY)
    assert {each.level for each in findings} == {Level.OK}
    assert exit_status(findings) == 0
    assert list(dict.fromkeys(each.check for each in findings)) == list(CHECKS)[:13]
    by_check = {each.check: each.found for each in findings}
    assert by_check["api-server"] == "v1.36.3 serves resource.k8s.io/v1"
    assert by_check["controller"] == "pod-a holds lease hami-system/hami-dra-controller"
    assert by_check["slices"] == "node-1: 1 of mode Shares (generation 1, 1 slices)"
    assert by_check["claims"] == "1 claims of this driver, and none is stuck"
    assert by_check["node-config"] == "ConfigMap hami-system/hami-dra-node is valid, 1 entries"


def test_nobody_who_can_read_nothing_is_told_that_all_is_well() -> None:
    """What could not be looked at is a warning with the server's words, in every check."""
    blind = ClusterView(namespace="hami-system", now=NOW, version="v1.36.3", serves_dra=True)
    findings = judge_cluster(blind)
    assert {each.check for each in findings if each.level is Level.OK} == {"api-server"}
    assert all("nobody asked" in each.found for each in findings[1:])
    assert exit_status(findings) == 0
    fields = ("leases", "config_maps", "pending", "bindings", "pods")
    findings = judge_cluster(replace(HEALTHY, **dict.fromkeys(fields, DENIED)))  # type: ignore[arg-type]  # all are Seen
    unknown = {each.check for each in findings if each.level is Level.WARNING and "403" in each.found}
    assert unknown == {"controller", "node-config", "claims", "admission-policy", "node-plugins", "mps"}


def test_an_api_server_without_dra_is_all_there_is_to_say() -> None:
    """Nothing else is worth a look."""
    (only,) = judge_cluster(replace(HEALTHY, version="v1.33.1", serves_dra=False))
    assert (only.level, only.found) == (Level.PROBLEM, "v1.33.1 does not serve resource.k8s.io/v1")
    assert "1.34 or later" in only.advice


@pytest.mark.parametrize(
    ("server", "layouts"),
    [
        (
            Server(),
            ["Shares as one device that many", "every partition at every place, and the card", "4 equal", "one"],
        ),
        (
            Server(closed=frozenset({CONSUMABLE, PARTITIONABLE})),
            [
                f"4 equal devices, because {CONSUMABLE} is closed",
                f"4 equal devices, because {CONSUMABLE} and {PARTITIONABLE} is closed",
                "4 equal devices",
                "one device for one claim",
            ],
        ),
        (
            Server(closed=frozenset({CONSUMABLE})),
            ["", f"a partition is not shared, because {CONSUMABLE} is closed", "", ""],
        ),
        (Server(counts_shares=False), ["", "because this scheduler cannot (1.36.2 and later can)", "", ""]),
    ],
)
def test_each_mode_has_its_layout_and_the_reason(server: Server, layouts: list[str]) -> None:
    """As the publisher would cut such a card."""
    found = dict(enumerate(text for _, text in look("layouts", server=server)))
    modes = ("Shares", "Partitions", "FixedShares", "Whole")
    for mode, expected in zip(modes, layouts, strict=True):
        (text,) = (line for line in found.values() if f"of mode {mode} " in line)
        assert expected.removeprefix("Shares as ") in text


def test_a_closed_gate_costs_something_and_can_be_opened() -> None:
    """The gate is named, what it costs, and where to open it; on 1.34 partitions take an upgrade, too."""
    server = Server(closed=frozenset({CONSUMABLE, PARTITIONABLE, TAINTS}))
    for version, upgrade in (("v1.34.4", True), ("v1.35.1", False), ("mine", False)):
        findings = judge_cluster(replace(HEALTHY, server=server, version=version))
        gates = [each for each in findings if each.check == "feature-gates"]
        assert [each.level for each in gates] == [Level.WARNING] * 3
        assert "fixed shares" in gates[0].found
        assert f"--feature-gates={CONSUMABLE}=true" in gates[0].advice
        assert ("1.35 or later" in gates[1].advice) is upgrade


def test_missing_rights_are_named() -> None:
    """Those of whoever asks are a warning, those of the accounts a problem."""
    rights = dict.fromkeys(doctor_rights("hami-system"), True)
    denied = next(right for right in rights if right.resource == "leases")
    assert look("rights", rights=rights | {denied: False}) == [
        ("warning", "this user may not list leases in hami-system: what depends on it is not looked at")
    ]
    needed = account_rights(installed(WORKLOADS), namespace="hami-system")["hami-dra-node"]
    last = needed[-1]
    assert look("accounts", accounts={"hami-dra-node": {**dict.fromkeys(needed, True), last: False}}) == [
        ("problem", "hami-dra-node may not watch configmaps hami-dra-node in hami-system")
    ]
    assert account_rights(installed(DENIED), namespace="hami-system") == {}


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], [("problem", "no DeviceClass selects devices of gpu.hami.io")]),
        (
            [device_class("mine", cel='device.driver == "gpu.hami.io"')],
            [("warning", "mine, but not gpu.hami.io")],
        ),
        (
            [device_class("gpu.hami.io", config={"apiVersion": "gpu.hami.io/v1alpha1", "kind": "GpuConfig", "qos": 3})],
            [("problem", "DeviceClass gpu.hami.io: qos: found 3;")],
        ),
        (
            [
                device_class("gpu.hami.io", config={}, driver="x"),
                device_class("nvidia.gpu.hami.io", config={}, driver="x"),
            ],
            [("ok", "gpu.hami.io, nvidia.gpu.hami.io")],
        ),
        ([{"metadata": {"name": "xgpu.hami.io"}}], [("problem", "no DeviceClass selects")]),
    ],
)
def test_device_classes(classes: list[Any], expected: list[tuple[str, str]]) -> None:
    """Those of this driver, and configuration that no claim of the class could use."""
    found = look("device-classes", classes=classes)
    assert [(level, text.startswith(start)) for (level, text), (_, start) in zip(found, expected, strict=True)] == [
        (level, True) for level, _ in expected
    ]


@pytest.mark.parametrize(
    ("seen", "found", "advice"),
    [
        ({"workloads": [workload("node")]}, "there is no controller in namespace hami-system", "--namespace"),
        ({"leases": []}, "nobody holds lease", "describe pods"),
        (
            {"leases": [lease(holderIdentity="")], "workloads": [workload("node"), workload("controller", pods=0)]},
            "nobody holds lease hami-system/hami-dra-controller: claims are not explained",
            "scale deployment hami-dra-controller --replicas=1",
        ),
        ({"leases": [lease(renewTime=OLD)]}, "pod-a holds lease", "describe pods"),
    ],
)
def test_without_a_controller_claims_are_not_explained(seen: dict[str, Any], found: str, advice: str) -> None:
    """Not installed, scaled to nothing, or dead without having said so."""
    (only,) = (each for each in judge_cluster(replace(HEALTHY, **seen)) if each.check == "controller")
    assert only.level is Level.PROBLEM
    assert only.found.startswith(found)
    assert advice in only.advice


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"workloads": [workload("controller")]}, ("problem", "there is no node plugin in namespace hami-system")),
        ({"workloads": [workload("node", pods=0)]}, ("warning", "DaemonSet hami-system/hami-dra-node is for no node")),
        ({"workloads": [workload("node", pods=3)]}, ("problem", "2 nodes have no pod of DaemonSet hami-dra-node yet")),
        (
            {"pods": [plugin(ready=False, containerStatuses=[{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}])]},
            ("problem", "node-1: pod plugin-node-1 waits: CrashLoopBackOff"),
        ),
        (
            {"pods": [plugin(ready=False, containerStatuses=[{"state": {"running": {}}}])]},
            ("problem", "node-1: pod plugin-node-1 is not registered or does not publish"),
        ),
        ({"pods": [plugin(ready=False)]}, ("problem", "node-1: pod plugin-node-1 is Running")),
        ({"pods": [plugin(ready=False), plugin()]}, ("ok", "1 of 1 are registered with kubelet and publish")),
        ({"pods": [plugin(), plugin(ready=False)]}, ("ok", "1 of 1 are registered with kubelet and publish")),
    ],
)
def test_node_plugins(seen: dict[str, Any], expected: tuple[str, str]) -> None:
    """Where one is missing, waits, or is not registered; of two that overlap the ready one counts."""
    ((level, found),) = look("node-plugins", **seen)
    assert (level, found[: len(expected[1])]) == expected


def test_pods_that_are_no_node_plugin_do_not_count() -> None:
    """The controller's, one that ends, and one that is nowhere yet."""
    ending = plugin()
    ending["metadata"]["deletionTimestamp"] = OLD
    others = [plugin(None), ending, {"metadata": {"name": "c"}, "spec": {"nodeName": "node-1"}}]
    assert look("node-plugins", pods=others) == [("problem", "1 nodes have no pod of DaemonSet hami-dra-node yet")]


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        ([], [("problem", "node-1: nothing is published")]),
        (
            [published(count=2)],
            [("problem", "node-1: pool node-1/gpu has 1 of 2 slices: nothing of it is allocated")],
        ),
        (
            [published(generation=1), published(generation=2), published(generation=1)],
            [("ok", "node-1: 1 of mode Shares (generation 2, 3 slices)")],
        ),
        ([published(pool="node-1")], [("warning", "node-1: pool node-1 is not node-1/gpu")]),
        (
            [published(), published("node-2")],
            [
                ("ok", "node-1: 1 of mode Shares (generation 1, 1 slices)"),
                ("problem", "node-2: slices, but no node plugin"),
            ],
        ),
        (
            [published(taints=[{"key": "a", "value": "79", "effect": "NoSchedule"}, {"key": "b", "effect": "None"}])],
            [
                ("warning", "node-1: gpu-0 has taint a=79:NoSchedule"),
                ("ok", "node-1: 1 of mode Shares (generation 1, 1 slices)"),
            ],
        ),
    ],
)
def test_slices(slices: list[Any], expected: list[tuple[str, str]]) -> None:
    """Node by node: what is published, whether it is whole, and what is wrong with the devices."""
    assert look("slices", slices=slices) == expected


def test_a_node_without_a_card_publishes_an_empty_slice() -> None:
    """Which is nothing to repair; and pods that cannot be seen make no plugin missing."""
    empty = published()
    del empty["spec"]["devices"]
    expected = [("ok", "node-1: no device: there is no card (generation 1, 1 slices)")]
    assert look("slices", slices=[empty]) == look("slices", slices=[empty], pods=DENIED) == expected


@pytest.mark.parametrize(
    ("claims", "pending", "expected"),
    [
        (
            [claim(allocation=allocated(), devices=[said("Resolved", "False")])],
            [],
            ("problem", "ml/train: Resolved is False: qos: found 3 (InvalidConfig)"),
        ),
        (
            [claim(allocation=allocated(), devices=[said("Ready", "False")])],
            [waiting()],
            ("problem", "ml/train: Ready is False: qos: found 3 (InvalidConfig)"),
        ),
        (
            [claim(allocation=allocated(), deleted=True, reservedFor=[{"name": "train-0"}])],
            [],
            ("warning", "ml/train: is being deleted, used by pods/train-0"),
        ),
        ([claim()], [waiting()], ("warning", "ml/train: is not allocated: 0/2 nodes are available (pod train-0)")),
        (
            [claim()],
            [waiting(made=False)],
            ("warning", "ml/train: is not allocated: 0/2 nodes are available (pod train-0)"),
        ),
        ([claim()], [waiting(message="")], ("warning", "ml/train: is not allocated: the scheduler has not said why")),
        (
            [claim(allocation=allocated())],
            [waiting()],
            ("problem", "ml/train: is allocated to nobody, but not prepared"),
        ),
        ([claim(created=YOUNG)], [waiting()], ("ok", "1 claims of this driver, and none is stuck")),
        ([claim()], [], ("ok", "1 claims of this driver, and none is stuck")),
        (
            [claim(allocation=allocated(), devices=[said("Ready", "True")])],
            [waiting()],
            ("ok", "1 claims of this driver, and none is stuck"),
        ),
        ([claim(allocation=allocated("x"))], [waiting()], ("ok", "0 claims of this driver, and none is stuck")),
        (
            [claim(allocation=allocated(), devices=[{**said("Ready", "False"), "driver": "x"}])],
            [],
            ("ok", "1 claims of this driver, and none is stuck"),
        ),
    ],
)
def test_claims(claims: list[Any], pending: list[Any], expected: tuple[str, str]) -> None:
    """What is refused, waits for the scheduler or for a node plugin, or does not end; not what is on its way."""
    assert look("claims", claims=claims, pending=pending) == [expected]


def test_claims_of_classes_that_cannot_be_read_are_told_by_the_drivers_name() -> None:
    """And one with alternatives is ours if one of them is."""
    either = claim(device_class="x")
    request = {"name": "gpu", "firstAvailable": [{"deviceClassName": "x"}, {"deviceClassName": "gpu.hami.io"}]}
    either["spec"]["devices"]["requests"] = [request]
    assert look("claims", claims=[either], classes=DENIED) == [("ok", "1 claims of this driver, and none is stuck")]


@pytest.mark.parametrize(
    ("seen", "start"),
    [
        ({"policies": [], "bindings": []}, "there is no ValidatingAdmissionPolicy: a node plugin can write"),
        ({"bindings": []}, "hami-dra-node is not bound to deny anything"),
        (
            {"bindings": [{"spec": {"policyName": "hami-dra-node", "validationActions": ["Audit"]}}]},
            "hami-dra-node is not",
        ),
        ({"bindings": [{"spec": {"policyName": "x", "validationActions": ["Deny"]}}]}, "hami-dra-node is not"),
    ],
)
def test_a_policy_that_denies_nothing_is_none(seen: dict[str, Any], start: str) -> None:
    """Not there, not bound, or only told about."""
    ((level, found),) = look("admission-policy", **seen)
    assert (level, found[: len(start)]) == ("warning", start)


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ([], ("ok", "there is no ConfigMap hami-system/hami-dra-node: every card has the defaults")),
        ([{}], ("problem", "ConfigMap hami-system/hami-dra-node has no key config.yaml")),
        (
            [{"data": {"config.yaml": GOOD.replace("8", "many")}}],
            ("problem", 'ConfigMap hami-system/hami-dra-node: entries.0.slots: found "many"'),
        ),
    ],
)
def test_a_wrong_node_configuration_is_quoted(maps: list[Any], expected: tuple[str, str]) -> None:
    """In the node plugins' own words."""
    ((level, found),) = look("node-config", config_maps=maps)
    assert (level, found[: len(expected[1])]) == expected


def test_a_report_has_a_line_for_each_finding_and_one_for_what_to_do() -> None:
    """And says how many there are of each level; for programs the same as JSON."""
    findings = [
        Finding(check="cdi", level=Level.OK, found="fine"),
        Finding(check="ledger", level=Level.PROBLEM, found="broken", advice="mend it"),
    ]
    assert report_lines(findings) == [
        "ok       cdi               fine",
        "problem  ledger            broken",
        "                           -> mend it",
        "",
        "1 problem, 0 warnings, 1 ok",
    ]
    assert exit_status(findings) == 1
    report = report_json(findings)
    assert report["summary"] == {"ok": 1, "warning": 0, "problem": 1}
    assert report["findings"][1] == {"check": "ledger", "level": "problem", "found": "broken", "advice": "mend it"}
