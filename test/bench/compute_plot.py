"""The plot of shares against their targets, as SVG written by hand.

One panel a contender, side by side: on the abscissa what a share was given, on the ordinate what it used, in percent of the card.
The diagonal is the target, the band around it the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Point", "plot"]

_SIDE, _LEFT, _TOP, _GAP, _LEGEND = 360, 46, 34, 40, 190
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#e08e0b", "#7b4fa3", "#00838f", "#8d6e63", "#546e7a")
_MARKS = ("circle", "square")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One share in one case, in percent of the card."""

    series: str
    label: str
    target: float
    use: float


def plot(points: Sequence[Point], *, budget: float) -> str:
    """The picture of these points."""
    series = list(dict.fromkeys(point.series for point in points))
    labels = list(dict.fromkeys(point.label for point in points))
    width = _LEFT + len(series) * (_SIDE + _GAP) + _LEGEND
    height = _TOP + _SIDE + 44
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for index, name in enumerate(series):
        parts += _panel(name, left=_LEFT + index * (_SIDE + _GAP), budget=budget)
        parts += [
            _mark(labels.index(point.label), *_place(point, left=_LEFT + index * (_SIDE + _GAP)))
            for point in points
            if point.series == name
        ]
    left = _LEFT + len(series) * (_SIDE + _GAP)
    for index, label in enumerate(labels):
        y = _TOP + 10 + 17 * index
        parts += [_mark(index, left, y), f'<text x="{left + 10}" y="{y + 4}">{escape(label)}</text>']
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name: str, *, left: int, budget: float) -> list[str]:
    def x(percent: float) -> float:
        return round(left + percent * _SIDE / 100, 1)

    def y(percent: float) -> float:
        return round(_TOP + _SIDE - percent * _SIDE / 100, 1)

    corners = ((0, budget), (100 - budget, 100), (100, 100), (100, 100 - budget), (budget, 0), (0, 0))
    band = " ".join(f"{x(across)},{y(up)}" for across, up in corners)
    parts = [
        f'<text x="{left}" y="{_TOP - 12}" font-size="13">{escape(name)}</text>',
        f'<rect x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#999999"/>',
        f'<polygon points="{band}" fill="#d9ead3"/>',
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(100)}" y2="{y(100)}" stroke="#6aa84f"/>',
    ]
    for tick in range(0, 101, 10):
        parts.append(f'<text x="{x(tick)}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{tick}</text>')
        parts.append(f'<text x="{left - 6}" y="{y(tick) + 4}" text-anchor="end">{tick}</text>')
    axes = "across: cores given; up: GPU time used; % of the card"
    middle, below = left + _SIDE / 2, _TOP + _SIDE + 34
    parts.append(f'<text x="{middle}" y="{below}" text-anchor="middle">{axes}</text>')
    return parts


def _place(point: Point, *, left: int) -> tuple[float, float]:
    use = min(max(point.use, 0.0), 100.0)
    return round(left + point.target * _SIDE / 100, 1), round(_TOP + _SIDE - use * _SIDE / 100, 1)


def _mark(index: int, x: float, y: float) -> str:
    colour = _COLOURS[index % len(_COLOURS)]
    if _MARKS[index // len(_COLOURS) % len(_MARKS)] == "circle":
        return f'<circle cx="{x}" cy="{y}" r="3.5" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return (
        f'<rect x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    )
