"""Line and bar charts as inline SVG: text in the page's own font, no file and no script beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 40


@dataclass(frozen=True)
class Series:
    """A named line, or a named group of bars."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    """(x, y); for bars x is the index of the category."""


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, y_max: float | None = None) -> Markup:
    """Lines over a numeric axis, the y axis from 0."""
    x_high = max(x for line in series for x, _ in line.points)
    x_low = min(x for line in series for x, _ in line.points)
    y_high = y_max or _round_up(max(y for line in series for _, y in line.points))
    parts = [_y_axis(y_high, y_label), _x_ticks(x_low, x_high), _x_label(x_label)]
    for line in series:
        points = " ".join(f"{_x(x, x_low, x_high):.1f},{_y(y, y_high):.1f}" for x, y in line.points if math.isfinite(y))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="2" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
        x, y = line.points[-1]
        parts.append(f'<circle cx="{_x(x, x_low, x_high):.1f}" cy="{_y(y, y_high):.1f}" r="3.5" fill="{line.colour}"/>')
    return _figure(parts, series)


def bar_chart(series: Sequence[Series], *, categories: Sequence[str], y_label: str) -> Markup:
    """Groups of bars, one group per category, values written on top."""
    y_high = _round_up(max(y for group in series for _, y in group.points))
    slot = (WIDTH - LEFT - RIGHT) / len(categories)
    bar = min(46.0, slot * 0.76 / len(series))
    parts = [_y_axis(y_high, y_label)]
    for index, category in enumerate(categories):
        middle = LEFT + slot * (index + 0.5)
        parts.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(category)}</text>'
        )
    for number, group in enumerate(series):
        for place, value in group.points:
            left = LEFT + slot * (place + 0.5) + bar * (number - len(series) / 2)
            parts.append(_bar(left, _y(value, y_high), bar, value=value, colour=group.colour))
    return _figure(parts, series)


def _bar(left: float, top: float, width: float, *, value: float, colour: str) -> str:
    box = f'x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{HEIGHT - BOTTOM - top:.1f}"'
    place = f'x="{left + width / 2:.1f}" y="{top - 4:.1f}" text-anchor="middle"'
    return f'<rect {box} rx="2" fill="{colour}"/><text {place} class="value">{value:.0f}</text>'


def _figure(parts: Sequence[str], series: Sequence[Series]) -> Markup:
    keys = "".join(f'<span><i style="background:{line.colour}"></i>{escape(line.name)}</span>' for line in series)
    body = "".join(parts)
    label = escape(", ".join(line.name for line in series))
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{body}</svg>'
        f'<div class="legend">{keys}</div>'
    )


def _y_axis(y_high: float, label: str) -> str:
    lines = []
    for step in range(5):
        value = y_high * step / 4
        y = _y(value, y_high)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="{"grid" if step else "axis"}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    lines.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(label)}</text>'
    )
    return "".join(lines)


def _x_ticks(x_low: float, x_high: float) -> str:
    step = _round_up((x_high - x_low) / 6)
    first, last = math.ceil(x_low / step - 1e-9), math.floor(x_high / step + 1e-9)
    ticks = [number * step for number in range(first, last + 1)]
    return "".join(
        f'<text x="{_x(x, x_low, x_high):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_tick(x)}</text>'
        for x in ticks
    )


def _x_label(label: str) -> str:
    return f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(label)}</text>'


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low or 1.0)


def _y(value: float, high: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value, high) / high


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:.4g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 2, 4, 6, 8, 10) if step * scale >= value)
