"""What isolation TimeSlicing and MPS need on a node, and whether they have it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from hami_dra.api.opaque import Isolation
from hami_dra.core.doctor.finding import Finding, ok, problem, warning
from hami_dra.core.ids import DeviceName
from hami_dra.core.modes import unit_of
from hami_dra.core.mps import Answer
from hami_dra.core.record import Entry

__all__ = ["PROGRAMS", "IsolationView", "judge_isolation"]

_CHECK = "isolation"
PROGRAMS: Mapping[Isolation, str] = {Isolation.TIME_SLICING: "nvidia-smi", Isolation.MPS: "nvidia-cuda-mps-control"}
"""The program of NVIDIA's driver by which each of them comes about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationView:
    """The driver's programs, and the daemons of MPS."""

    programs: Collection[str] = ()
    """Those of `PROGRAMS` that are below the driver root."""
    kept: bool = False
    """Whether `hami-dra mps` lives on this node."""
    daemons: Mapping[DeviceName, Answer | None] = field(default_factory=dict)
    """What it says of each daemon that the node plugin asks for."""


def judge_isolation(view: IsolationView, entries: Iterable[Entry], *, nvidia: bool, driver_root: str) -> list[Finding]:
    """A line for each mode that works, could not work, or does not.

    Args:
        view: what was seen.
        entries: the ledger's rows of this boot.
        nvidia: whether NVIDIA's driver is on this node: the modes are its.
        driver_root: where it lies.
    """
    used: dict[Isolation, set[DeviceName]] = {mode: set() for mode in PROGRAMS}
    for spec in (share.spec for entry in entries for share in entry.plan.shares):
        if spec.isolation in used:
            used[spec.isolation].add(unit_of(spec.device))
    if not nvidia and not any(used.values()):
        return [ok(_CHECK, "TimeSlicing and MPS are for NVIDIA's cards, of which there is none")]
    findings = [_program(mode, used[mode], view, driver_root) for mode in PROGRAMS]
    return [*findings, *_daemons(view, used[Isolation.MPS])]


def _program(mode: Isolation, used: Collection[DeviceName], view: IsolationView, driver_root: str) -> Finding:
    name, of = PROGRAMS[mode], f"{mode} on {', '.join(sorted(used))}" if used else f"{mode} on no card"
    if name in view.programs:
        return ok(_CHECK, f"{of}, and {name} is there")
    found = f"{of}, and there is no {name} below {driver_root}"
    advice = "install that part of NVIDIA's driver, or have claims use isolation Guard"
    return problem(_CHECK, found, advice) if used else warning(_CHECK, found, advice)


def _daemons(view: IsolationView, used: Collection[DeviceName]) -> list[Finding]:
    if used and not view.kept:
        advice = "set mps.enabled in the chart's values; if it is set, see why the mps pod of this node does not run"
        return [
            problem(_CHECK, f"MPS on {', '.join(sorted(used))}, but hami-dra mps does not run on this node", advice)
        ]
    return [_daemon(device, view) for device in sorted({*used, *view.daemons}) if view.kept]


def _daemon(device: DeviceName, view: IsolationView) -> Finding:
    if device not in view.daemons:
        advice = "restart the node plugin: it asks for what its ledger needs"
        return problem(_CHECK, f"{device}: nobody asks for its MPS control daemon", advice)
    answer = view.daemons[device]
    if answer is None or answer.serves is None:
        why = "it is not started yet" if answer is None else f"{answer.message} (it ended {answer.ends} times)"
        advice = "see the log of the mps pod of this node; programs that were its clients have to start anew"
        return problem(_CHECK, f"{device}: its MPS control daemon takes no clients: {why}", advice)
    ended = f", it ended {answer.ends} times" if answer.ends else ""
    return ok(_CHECK, f"{device}: its MPS control daemon serves up to {answer.serves.percent} percent a client{ended}")
