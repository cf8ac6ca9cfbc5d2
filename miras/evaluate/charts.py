"""Charts as inline SVG: text in the page's own font, no file and no script beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 270
SQUARE_HEIGHT = 400
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 12, 42
FEW_POINTS = 12  # of a line with more, only the last one is marked
NARROW_BAR = 21.0  # too narrow for a number on top
F1_CONTOURS = (20, 40, 60, 80)  # percent
SHAPES = ("circle", "square", "triangle", "cross")


@dataclass(frozen=True)
class Series:
    """A named line, or a named group of bars."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    """(x, y), finite; for bars x is the index of the category."""
    dash: str = ""
    """Of the line, as SVG's stroke-dasharray; empty: drawn through."""
    notes: Sequence[str] = field(default=())
    """What the pointer shows at each point besides its numbers."""


@dataclass(frozen=True)
class Mark:
    """A named point."""

    name: str
    colour: str
    shape: str
    """One of `SHAPES`."""
    x: float
    y: float


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_max: float | None = None,
    x_ticks: Sequence[float] | None = None,
) -> Markup:
    """Lines over a numeric axis, the y axis from 0; at least one point."""
    x_values = [x for line in series for x, _ in line.points]
    x_low, x_high = min(x_values), max(x_values)
    y_high = y_max or _round_up(max(y for line in series for _, y in line.points))
    ticks = _ticks(x_low, x_high) if x_ticks is None else x_ticks
    parts = [_y_axis(y_high, y_label), _x_axis(ticks, x_low, x_high), _x_label(x_label)]
    for line in series:
        places = [(_x(x, x_low, x_high), _y(y, y_high)) for x, y in line.points]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="2"{dash} '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )
        marked = range(len(line.points)) if len(line.points) <= FEW_POINTS else [len(line.points) - 1]
        for number in marked:
            point = line.points[number]
            shape = _shape("circle", *places[number], colour=line.colour)
            parts.append(_with_title(shape, _note(line, number, f"{_tick(point[0])}: {point[1]:.4g}")))
    return _figure(parts, [(line.name, _line_key(line)) for line in series])


def bar_chart(series: Sequence[Series], *, categories: Sequence[str], y_label: str, x_label: str = "") -> Markup:
    """Groups of bars, one group per category, values written on top where there is room."""
    y_high = _round_up(max(y for group in series for _, y in group.points))
    slot = (WIDTH - LEFT - RIGHT) / len(categories)
    bar = min(46.0, slot * 0.8 / len(series))
    parts = [_y_axis(y_high, y_label), _x_label(x_label)]
    for index, category in enumerate(categories):
        middle = LEFT + slot * (index + 0.5)
        parts.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{escape(category)}</text>'
        )
    for number, group in enumerate(series):
        for place, (category_index, value) in enumerate(group.points):
            left = LEFT + slot * (category_index + 0.5) + bar * (number - len(series) / 2)
            drawn = _bar(left, _y(value, y_high), bar, value=value, colour=group.colour)
            parts.append(_with_title(drawn, _note(group, place, f"{categories[int(category_index)]}: {value:.1f}")))
    return _figure(parts, [(group.name, _box_key(group.colour)) for group in series])


def trade_off_chart(marks: Sequence[Mark], *, x_label: str, y_label: str) -> Markup:
    """Points of percent against percent, with lines of equal F1 = 2 x y / (x + y)."""
    parts = [_y_axis(100, y_label, height=SQUARE_HEIGHT), _x_axis(range(0, 101, 20), 0, 100, height=SQUARE_HEIGHT)]
    parts += [_x_label(x_label, height=SQUARE_HEIGHT), *(_contour(score) for score in F1_CONTOURS)]
    for mark in marks:
        place = _x(mark.x, 0, 100), _y(mark.y, 100, height=SQUARE_HEIGHT)
        drawn = _shape(mark.shape, *place, colour=mark.colour, radius=6)
        parts.append(_with_title(drawn, f"{mark.name}: {x_label} {mark.x:.1f}, {y_label} {mark.y:.1f}"))
    keys = [(mark.name, _key(_shape(mark.shape, 12, 6, colour=mark.colour, radius=5))) for mark in marks]
    return _figure(parts, keys, height=SQUARE_HEIGHT)


def _contour(score: int) -> str:
    """Where 2 x y / (x + y) has this value: y = F x / (2 x - F)."""
    low = score / (2 - score / 100)
    steps = [low * (100 / low) ** (number / 40) for number in range(41)]
    places = [(_x(x, 0, 100), _y(min(100.0, score * x / (2 * x - score)), 100, height=SQUARE_HEIGHT)) for x in steps]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[-1]
    return (
        f'<polyline points="{points}" class="contour"/>'
        f'<text x="{x - 4:.1f}" y="{y - 4:.1f}" text-anchor="end" class="contour">F1 {score}</text>'
    )


def _bar(left: float, top: float, width: float, *, value: float, colour: str) -> str:
    box = f'x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{max(1.0, HEIGHT - BOTTOM - top):.1f}"'
    drawn = f'<rect {box} rx="2" fill="{colour}"/>'
    if width < NARROW_BAR:
        return drawn
    place = f'x="{left + width / 2:.1f}" y="{top - 4:.1f}" text-anchor="middle"'
    return f'{drawn}<text {place} class="value">{value:.0f}</text>'


def _shape(shape: str, x: float, y: float, *, colour: str, radius: float = 3.5) -> str:
    r = radius
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" fill="{colour}"/>'
    if shape == "square":
        return f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r:g}" height="{2 * r:g}" fill="{colour}"/>'
    if shape == "triangle":
        corners = f"{x:.1f},{y - r:.1f} {x + r:.1f},{y + r:.1f} {x - r:.1f},{y + r:.1f}"
        return f'<polygon points="{corners}" fill="{colour}"/>'
    strokes = f"M{x - r:.1f} {y - r:.1f}l{2 * r:g} {2 * r:g}M{x + r:.1f} {y - r:.1f}l{-2 * r:g} {2 * r:g}"
    return f'<path d="{strokes}" stroke="{colour}" stroke-width="2.5" fill="none"/>'


def _with_title(drawn: str, title: str) -> str:
    return f"<g><title>{escape(title)}</title>{drawn}</g>"


def _note(series: Series, number: int, text: str) -> str:
    note = f" ({series.notes[number]})" if series.notes else ""
    return f"{series.name}, {text}{note}"


def _line_key(line: Series) -> str:
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return _key(f'<line x1="1" x2="23" y1="6" y2="6" stroke="{line.colour}" stroke-width="2.5"{dash}/>')


def _box_key(colour: str) -> str:
    return _key(f'<rect x="7" y="1" width="10" height="10" rx="2" fill="{colour}"/>')


def _key(drawn: str) -> str:
    return f'<svg class="key" viewBox="0 0 24 12" aria-hidden="true">{drawn}</svg>'


def _figure(parts: Sequence[str], keys: Sequence[tuple[str, str]], *, height: int = HEIGHT) -> Markup:
    """The chart with its legend: (name, drawn key) of each series."""
    legend = "".join(f"<span>{key}{escape(name)}</span>" for name, key in keys)
    label = escape(", ".join(name for name, _ in keys))
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
        f'<div class="legend">{legend}</div>'
    )


def _y_axis(y_high: float, label: str, *, height: int = HEIGHT) -> str:
    lines = []
    steps = 5 if y_high == 100 else 4
    for step in range(steps + 1):
        value = y_high * step / steps
        y = _y(value, y_high, height=height)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="{"grid" if step else "axis"}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    middle = (TOP + height - BOTTOM) / 2
    lines.append(
        f'<text x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">{escape(label)}</text>'
    )
    return "".join(lines)


def _ticks(x_low: float, x_high: float) -> list[float]:
    step = _round_up((x_high - x_low) / 6)
    first, last = math.ceil(x_low / step - 1e-9), math.floor(x_high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _x_axis(ticks: Sequence[float], x_low: float, x_high: float, *, height: int = HEIGHT) -> str:
    return "".join(
        f'<text x="{_x(x, x_low, x_high):.1f}" y="{height - BOTTOM + 16}" text-anchor="middle">{_tick(x)}</text>'
        for x in ticks
    )


def _x_label(label: str, *, height: int = HEIGHT) -> str:
    return f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 5}" text-anchor="middle">{escape(label)}</text>'


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low or 1.0)


def _y(value: float, high: float, *, height: int = HEIGHT) -> float:
    return height - BOTTOM - (height - TOP - BOTTOM) * min(value, high) / high


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:.4g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(step * scale for step in (1, 2, 4, 6, 8, 10) if step * scale >= value)
