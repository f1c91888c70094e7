"""What `hami-dra top` shows: the cards and shares of each node, from the metrics of its node plugin.

Pure: samples in, lines out; `app.top` fetches and draws.  Rates come from two looks at the same node: what a share computed
is what its counter grew by in between.  A metric that is missing is unknown and shows as a dash, never as 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["NodeView", "Sample", "read_node", "table"]

_PREFIX: Final = "hami_dra_"
_UNKNOWN: Final = "-"
_GIB: Final = 1 << 30
_FULL, _EMPTY = "█", "░"
_BAR: Final = 10
_GAP: Final = "  "
_SHARE_KEY: Final = ("namespace", "claim", "request", "device", "share")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of a metrics page."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The metrics of one card or share, by name without prefix."""

    labels: Mapping[str, str]
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def get(self, name: str) -> float | None:
        return self.values.get(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One look at one node."""

    node: str
    at_s: float
    """When, on any clock that does not jump."""
    cards: Mapping[str, _Row] = field(default_factory=dict)
    shares: Mapping[tuple[str, ...], _Row] = field(default_factory=dict)
    problem: str = ""
    """Why there is nothing to see; empty when there is."""


def read_node(node: str, samples: Iterable[Sample], *, at_s: float) -> NodeView:
    """What a metrics page says."""
    cards: dict[str, _Row] = {}
    shares: dict[tuple[str, ...], _Row] = {}
    for sample in samples:
        name = sample.name.removeprefix(_PREFIX)
        row: _Row | None = None
        if name.startswith("device_") and "device" in sample.labels:
            row = cards.setdefault(sample.labels["device"], _Row(labels=sample.labels))
        elif name.startswith("share_") and all(label in sample.labels for label in _SHARE_KEY):
            row = shares.setdefault(tuple(sample.labels[label] for label in _SHARE_KEY), _Row(labels=sample.labels))
        if row is None:
            continue
        note = _note(name, sample)
        if note:
            row.notes.append(note)
        row.values[name] = sample.value
    return NodeView(node=node, at_s=at_s, cards=cards, shares=shares)


def _note(name: str, sample: Sample) -> str:
    """What is worth a word beside the figures."""
    if name == "device_fault" and sample.value:
        return f"{sample.labels.get('key', '')}={sample.labels.get('value', '')}"
    if name == "share_above_limit" and sample.value:
        return f"above its {sample.labels.get('limit', '')}"
    return ""


def table(before: Sequence[NodeView], now: Sequence[NodeView]) -> list[str]:
    """The lines to show.

    Args:
        before: an earlier look, for rates; a node that is not in it has none.
        now: the present one.
    """
    earlier = {view.node: view for view in before}
    lines: list[str] = []
    for view in sorted(now, key=lambda view: view.node):
        if lines:
            lines.append("")
        lines += _node(earlier.get(view.node), view)
    return lines or ["no node plugin was found"]


def _node(before: NodeView | None, now: NodeView) -> list[str]:
    if now.problem:
        return [f"{now.node}: {now.problem}"]
    lines = [f"{now.node}: {_count(len(now.cards), 'card')}, {_count(len(now.shares), 'share')}"]
    cards = [_card(name, row) for name, row in sorted(now.cards.items())]
    lines += _columns(("CARD", "MEMORY USED", "", "PROMISED", "CORES", "SHARES", "HEALTH"), cards)
    shares = [_share(before, now, key, row) for key, row in sorted(now.shares.items())]
    lines += _columns(("SHARE", "CARD", "MEMORY USED", "", "COMPUTE", "", "HELD BACK", "PROCESSES", ""), shares)
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _card(name: str, row: _Row) -> tuple[str, ...]:
    total, used = row.get("device_memory_bytes"), row.get("device_memory_used_bytes")
    healthy = row.get("device_healthy")
    words = _UNKNOWN if healthy is None else "healthy" if healthy else "not healthy"
    return (
        name,
        _bar(used, total),
        _of(used, total),
        _gib(row.get("device_memory_allocated_bytes")),
        _percent(row.get("device_cores_allocated_percent")),
        _whole(row.get("device_shares")),
        ", ".join([words, *row.notes]),
    )


def _share(before: NodeView | None, now: NodeView, key: tuple[str, ...], row: _Row) -> tuple[str, ...]:
    old = before.shares.get(key) if before is not None else None
    seconds = now.at_s - before.at_s if before is not None else 0.0
    computed = _rate(old, row, "share_gpu_seconds_total", seconds)
    waited = _rate(old, row, "share_throttled_seconds_total", seconds)
    cores = row.get("share_cores_percent")
    used, limit = row.get("share_memory_used_bytes"), row.get("share_memory_bytes")
    who = row.labels.get("pod") or row.labels["claim"]
    return (
        f"{row.labels['namespace']}/{who} {row.labels['request']}",
        row.labels["device"],
        _bar(used, limit),
        _of(used, limit),
        _bar(computed, cores or 100.0),
        _percent(computed) + (f" of {cores:.0f} %" if cores else ""),
        _percent(None if waited is None else min(100.0, waited)),
        _whole(row.get("share_processes")),
        ", ".join(row.notes),
    )


def _rate(old: _Row | None, row: _Row, name: str, seconds: float) -> float | None:
    """Percent of the time; None where one of the looks lacks it, or the counter began anew."""
    first, last = old.get(name) if old is not None else None, row.get(name)
    if first is None or last is None or seconds <= 0 or last < first:
        return None
    return 100.0 * (last - first) / seconds


def _bar(value: float | None, most: float | None) -> str:
    if value is None or not most:
        return _EMPTY * _BAR
    cells = round(_BAR * min(1.0, max(0.0, value / most)))
    return _FULL * cells + _EMPTY * (_BAR - cells)


def _gib(number: float | None) -> str:
    return _UNKNOWN if number is None else f"{number / _GIB:.1f} GiB"


def _of(used: float | None, total: float | None) -> str:
    return _UNKNOWN if used is None or total is None else f"{used / _GIB:.1f} of {_gib(total)}"


def _percent(number: float | None) -> str:
    return _UNKNOWN if number is None else f"{number:.0f} %"


def _whole(number: float | None) -> str:
    return _UNKNOWN if number is None else f"{number:.0f}"


def _columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned; nothing where there is no row."""
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return [
        "  " + _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
