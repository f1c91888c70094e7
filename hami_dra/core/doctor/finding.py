"""One thing that was looked at, and how a report of them reads.

A line for each finding, as in the field's other doctors; what is not as it should be says on the next line what to do.  Names of
checks are stable: people grep for them, and docs/troubleshooting.md has a section for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hami_dra.api.k8s import JsonObject

__all__ = ["CHECKS", "Finding", "Level", "exit_status", "ok", "problem", "report_json", "report_lines", "warning"]


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could, or nobody can tell."""
    PROBLEM = "problem"
    """Something does not work."""


CHECKS: Final[Mapping[str, str]] = {
    "api-server": "which Kubernetes this is, and whether it serves resource.k8s.io/v1",
    "rights": "whether this user may read what is looked at here",
    "feature-gates": "which fields of DRA the API server keeps",
    "layouts": "into what a card of each mode is cut here",
    "device-classes": "the DeviceClasses of this driver, and their configuration",
    "controller": "whether a controller holds the lease",
    "node-plugins": "whether the node plugins run and are registered with kubelet",
    "slices": "what each node publishes",
    "claims": "claims that do not get on, and why",
    "mps": "whether claims with isolation MPS find the daemons that it takes",
    "admission-policy": "what keeps a node plugin from writing the slices of other nodes",
    "accounts": "whether the two service accounts may do what they have to",
    "node-config": "whether the node configuration is valid",
    "driver": "the drivers of the cards, their libraries and versions",
    "cards": "each card, and how it can be shared",
    "sockets": "whether kubelet finds the node plugin",
    "cdi": "the directory of CDI specs",
    "ledger": "the record of what is prepared, against the files of this node",
    "guard": "the builds of the guard that are installed",
    "isolation": "what isolation TimeSlicing and MPS need of this node",
    "kernel": "what of the kernel matters: room, open files, processes, the dmem controller",
}
"""Every check by its name, in the order of the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    found: str
    advice: str = ""
    """What to do; of whatever is not ok."""


def ok(check: str, found: str) -> Finding:
    """As it should be."""
    return Finding(check=check, level=Level.OK, found=found)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(check=check, level=Level.WARNING, found=found, advice=advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check=check, level=Level.PROBLEM, found=found, advice=advice)


def report_lines(findings: Sequence[Finding]) -> list[str]:
    """The report for people."""
    width = max(map(len, CHECKS))
    lines = []
    for each in findings:
        lines.append(f"{each.level:<7}  {each.check:<{width}}  {each.found}")
        if each.advice:
            lines.append(f"{'':7}  {'':{width}}  -> {each.advice}")
    counts = _counts(findings)
    said = [_count(counts["problem"], "problem"), _count(counts["warning"], "warning"), f"{counts['ok']} ok"]
    return [*lines, "", ", ".join(said)]


def report_json(findings: Sequence[Finding]) -> JsonObject:
    """The same for programs."""
    said = [
        {"check": each.check, "level": str(each.level), "found": each.found, "advice": each.advice} for each in findings
    ]
    return {"findings": said, "summary": _counts(findings)}


def exit_status(findings: Sequence[Finding]) -> int:
    """0 where nothing is a problem, else 1."""
    return int(any(each.level is Level.PROBLEM for each in findings))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {str(level): sum(each.level is level for each in findings) for level in Level}
