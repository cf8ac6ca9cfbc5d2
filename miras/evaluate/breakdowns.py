"""Scores of a benchmark told apart by turn, size, focus and the like: a curve or bars, and the numbers beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from miras.evaluate.charts import Mark, Series, bar_chart, line_chart, trade_off_chart
from miras.evaluate.lineup import Lineup, Row, has_histories, series_name

MOST_COLUMNS, MOST_LINES, MOST_BARS = 8, 6, 4
DASHES = ("", "7 4", "2 4")  # of a model's first and further histories
SHARES = (100, 62, 36)  # of its colour
SHAPES = {"own": "circle", "reference": "square", "none": "triangle", "any": "cross"}

# Table -> (its column, what stands above, what a value is, kind of chart: line, bars or none).
BY: dict[str, tuple[str, str, str, str]] = {
    "masks_by_turn": ("turn", "cIoU by turn", "turn", "line"),
    "masks_by_size": ("size_class", "cIoU by size of the target", "size", "bars"),
    "masks_by_targets": ("targets", "cIoU by number of targets", "targets", "bars"),
    "masks_by_focus": ("focus", "cIoU by what the focus is about", "focus", ""),
    "masks_by_kind": ("kind", "cIoU by kind of question", "kind", ""),
}


@dataclass(frozen=True)
class Cell:
    """One score."""

    percent: float
    samples: int
    is_absent: bool
    """Whether nothing was there to be found: then the score is the share that was answered without a mask."""


@dataclass(frozen=True)
class Column:
    """One model with one history."""

    model: str
    history: str
    """Empty where no model had read anything."""
    colour: str


@dataclass(frozen=True)
class Breakdown:
    """The table by one property."""

    title: str
    label: str
    columns: tuple[Column, ...]
    lines: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    """Value -> a cell per column; None: not asked."""
    chart: Markup | None
    left_out: int
    """Columns that do not fit; scores.json has them."""


def breakdowns(tables: dict[str, list[Any]], rows: Sequence[Row], lineup: Lineup) -> list[Breakdown]:
    """Every breakdown of a benchmark with more than one value.

    Args:
        tables: of the scores document.
        rows: of `tables["masks"]`, one benchmark's.
        lineup: of the page.
    """
    benchmark = rows[0]["benchmark"]
    found = []
    for table, (column, title, label, kind) in BY.items():
        part = [row for row in tables.get(table, ()) if row["benchmark"] == benchmark]
        found.append(_breakdown(part, rows, lineup, column=column, title=title, label=label, kind=kind))
    tagged = [row for row in tables.get("masks_by_tag", ()) if row["benchmark"] == benchmark]
    for tag in dict.fromkeys(row["tag"] for row in tagged):
        part = [row for row in tagged if row["tag"] == tag]
        found.append(_breakdown(part, rows, lineup, column="value", title=f"cIoU by {tag}", label=tag, kind=""))
    return [breakdown for breakdown in found if breakdown]


def _breakdown(
    part: Sequence[Row], rows: Sequence[Row], lineup: Lineup, *, column: str, title: str, label: str, kind: str
) -> Breakdown | None:
    values = list(dict.fromkeys(row[column] for row in part))
    if len(values) < 2:
        return None
    values = sorted(values) if kind == "line" or column == "targets" else values
    with_history = has_histories(rows)
    present = {(row["model"], row["history"]) for row in part}
    keys = [key for key in lineup.drawn(rows) if key in present]
    cells = {(row["model"], row["history"], row[column]): _cell(row) for row in part}
    chosen = keys[:MOST_COLUMNS]
    names = {key: series_name({"model": key[0], "history": key[1]}, with_history=with_history) for key in keys}
    return Breakdown(
        title=title,
        label=label,
        columns=tuple(Column(key[0], _shown(key[1], with_history), lineup.colour(key[0])) for key in chosen),
        lines=tuple((str(value), tuple(cells.get((*key, value)) for key in chosen)) for value in values),
        chart=_chart(kind, values, cells, keys, names, lineup, label=label),
        left_out=len({(row["model"], row["history"]) for row in part}) - len(chosen),
    )


def _shown(history: str, with_history: bool) -> str:
    return history if with_history and history != "any" else ""


def _cell(row: Row) -> Cell | None:
    """cIoU; where no sample has a target, the share answered without a mask."""
    is_absent = "precision_at_50" not in row
    score = row.get("no_target_accuracy" if is_absent else "ciou")
    return None if score is None else Cell(float(score), row["samples"], is_absent)


def _chart(
    kind: str,
    values: Sequence[Any],
    cells: dict[tuple[str, str, Any], Cell | None],
    keys: Sequence[tuple[str, str]],
    names: dict[tuple[str, str], str],
    lineup: Lineup,
    *,
    label: str,
) -> Markup | None:
    """Lines over the values, or bars; None without a score to draw, or where a table says it better."""
    values = [value for value in values if any(_is_drawn(cells.get((*key, value))) for key in keys)]
    drawn = []
    for key in keys[: MOST_LINES if kind == "line" else MOST_BARS]:
        found = [(place, value, cells.get((*key, value))) for place, value in enumerate(values)]
        known = [(place, value, cell) for place, value, cell in found if cell and _is_drawn(cell)]
        if known:
            points = [(float(value) if kind == "line" else place, cell.percent) for place, value, cell in known]
            notes = [f"n {cell.samples}" for _, _, cell in known]
            drawn.append(Series(names[key], _tint(key, keys, lineup), points, _dash(key, keys), notes))
    if not kind or not drawn:
        return None
    if kind == "line":
        return line_chart(drawn, x_label=label, y_label="cIoU, %", y_max=100, x_ticks=[float(v) for v in values])
    return bar_chart(drawn, categories=[str(value) for value in values], y_label="cIoU, %", x_label=label)


def _is_drawn(cell: Cell | None) -> bool:
    """A curve of cIoU holds no shares of questions about nothing."""
    return cell is not None and not cell.is_absent


def _tint(key: tuple[str, str], keys: Sequence[tuple[str, str]], lineup: Lineup) -> str:
    """The model's colour, paler for its further histories."""
    return _mixed(lineup.colour(key[0]), SHARES[_place(key, keys)])


def _dash(key: tuple[str, str], keys: Sequence[tuple[str, str]]) -> str:
    return DASHES[_place(key, keys)]


def _place(key: tuple[str, str], keys: Sequence[tuple[str, str]]) -> int:
    """Of a history among its model's: 0, 1, or 2."""
    return min(2, [history for model, history in keys if model == key[0]].index(key[1]))


def _mixed(colour: str, percent: int) -> str:
    """The colour `#rrggbb` on white."""
    parts = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round((part * percent + 255 * (100 - percent)) / 100):02x}" for part in parts)


def threshold_chart(tables: dict[str, list[Any]], rows: Sequence[Row], lineup: Lineup, *, unit: str) -> Markup | None:
    """Share of samples over the least IoU; None when no sample has a target."""
    benchmark = rows[0]["benchmark"]
    part = [row for row in tables.get("precision_at_threshold", ()) if row["benchmark"] == benchmark]
    lines = []
    keys = lineup.drawn(rows)
    for model, history in keys[:MOST_LINES]:
        points = [
            (row["threshold"], row["share"]) for row in part if (row["model"], row["history"]) == (model, history)
        ]
        if points:
            name = series_name({"model": model, "history": history}, with_history=has_histories(rows))
            tint = _tint((model, history), keys, lineup)
            lines.append(Series(name, tint, points, _dash((model, history), keys)))
    if not lines:
        return None
    return line_chart(
        lines, x_label="IoU at least", y_label=f"share of {unit}, %", y_max=100, x_ticks=[0.1, 0.3, 0.5, 0.7, 0.9]
    )


def precision_recall_chart(rows: Sequence[Row], lineup: Lineup) -> Markup | None:
    """Macro precision against macro recall, a point per model and history; None when no sample has a target."""
    with_history = has_histories(rows)
    marks = [
        Mark(
            series_name(row, with_history=with_history),
            lineup.colour(row["model"]),
            SHAPES[row["history"]],
            row["macro_recall"],
            row["macro_precision"],
        )
        for row in lineup.sorted(rows)
        if "macro_recall" in row and "macro_precision" in row
    ]
    return trade_off_chart(marks, x_label="recall, %", y_label="precision, %") if marks else None
