"""A finished table as a page (`table.html`, opens offline), as Markdown (`table.md`) and as data (`table.json`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from miras.files import finished_file, write_json
from miras.reproduce.cells import Cell, Interval
from miras.reproduce.records import Column
from miras.reproduce.results import Result, row_title

PAGE, MARKDOWN, DATA = "table.html", "table.md", "table.json"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Block:
    """Columns that stand together: the paper's figures, ours on its benchmarks, ours on our own data."""

    kind: str
    """paper, public or own."""
    title: str
    columns: tuple[Column, ...]
    places: tuple[int, ...]
    """Which cells of a row the columns show."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings above the columns: text and number of columns."""
        return [(name, len(list(columns))) for name, columns in groupby(self.columns, lambda column: column.group)]


def write(result: Result, folder: Path) -> Path:
    """Writes page, Markdown and data to the folder; returns the page."""
    write_json(folder / DATA, result.model_dump(mode="json") | {"version": 1})
    for template, file in (("table.md.j2", MARKDOWN), ("table.html.j2", PAGE)):
        with finished_file(folder / file) as aside:
            aside.write_text(render(template, result), encoding="utf-8")
    return folder / PAGE


def render(template: str, result: Result) -> str:
    """A template of this package filled in; a name that is not there is an error."""
    templates = files("miras.reproduce") / "templates"
    environment = Environment(
        autoescape=template.endswith(".html.j2"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(signed=signed, bounds=bounds)
    styles = [files("miras.evaluate") / "templates" / "report.css", templates / "table.css"]
    return environment.from_string((templates / template).read_text(encoding="utf-8")).render(
        result=result,
        blocks=blocks(result),
        reasons=reasons(result),
        titles=[row_title(row) for row in result.rows],
        text=cell_text,
        paper_text=paper_text,
        digits=digits,
        basis=basis(result),
        not_here=left_out(result),
        style=Markup("\n".join(style.read_text(encoding="utf-8") for style in styles)),
    )


def blocks(result: Result) -> list[Block]:
    """The blocks of the table, from left to right; a public benchmark that no row has a number of has no column."""
    everywhere = range(len(result.columns))
    public = tuple(i for i in everywhere if any(row.public[i].values for row in result.rows))
    found = [Block("paper", f"the paper, {result.number}", result.columns, tuple(everywhere))]
    if public:
        columns = tuple(result.columns[i] for i in public)
        found.append(Block("public", "here, on the paper's benchmarks", columns, public))
    own = Block("own", "here, on our own data set", result.own_columns, tuple(range(len(result.own_columns))))
    return [*found, own]


def reasons(result: Result) -> dict[str, str]:
    """Why numbers are missing -> the letter that stands in their place."""
    shown = [row.public[i] for row in result.rows for i in _public_places(result)]
    shown += [cell for row in result.rows for cell in row.own]
    texts = list(dict.fromkeys(cell.reason for cell in shown if cell.reason))
    return {text: _letter(number) for number, text in enumerate(texts)}


def left_out(result: Result) -> list[str]:
    """Why the paper's benchmarks that no row has a number of have no column here, a sentence each."""
    found: dict[str, list[str]] = {}
    for i, column in enumerate(result.columns):
        if i not in _public_places(result):
            trained = [row.public[i].reason for row in result.rows if row.public[i].reason.startswith(column.benchmark)]
            reason = trained[0].removeprefix(column.benchmark) if trained else ": no row of this table is trained here"
            names = found.setdefault(reason, [])
            if column.benchmark not in names:
                names.append(column.benchmark)
    return [f"{', '.join(names)}{reason}" for reason, names in found.items()]


def _public_places(result: Result) -> Sequence[int]:
    return next((block.places for block in blocks(result) if block.kind == "public"), ())


def _letter(number: int) -> str:
    return LETTERS[number] if number < len(LETTERS) else f"{LETTERS[number // len(LETTERS) - 1]}{number % len(LETTERS)}"


def digits(column: Column) -> int:
    """Decimals of our numbers: judged scores go from 0 to 5, all others are percent."""
    return 2 if column.table == "judge" else 1


def signed(value: float, decimals: int = 1) -> str:
    """With its sign, a real minus, and no "-0.0"."""
    text = f"{value:+.{decimals}f}"
    return f"{0:.{decimals}f}" if float(text) == 0 else text.replace("-", "−")


def bounds(interval: Interval, decimals: int = 1) -> str:
    """ "12.0 to 15.5"."""
    return f"{interval.low:.{decimals}f} to {interval.high:.{decimals}f}".replace("-", "−")


def paper_text(result: Result, row: int, column: int) -> str:
    """The paper's figure with as many decimals as the paper gives in this column."""
    value = result.rows[row].paper[column]
    given = [str(other.paper[column]).partition(".")[2] for other in result.rows if other.paper[column] is not None]
    decimals = max((len(part) for part in given if part != "0"), default=0)
    return "–" if value is None else f"{value:.{max(decimals, 1)}f}"


def cell_text(cell: Cell, decimals: int) -> str:
    """A number of ours on one line: mean, spread, interval, gain."""
    if cell.mean is None:
        return ""
    parts = [f"{cell.mean:.{decimals}f}"]
    if cell.spread is not None:
        parts.append(f"± {cell.spread:.{decimals}f}")
    if cell.interval is not None:
        parts.append(f"[{bounds(cell.interval, decimals)}]")
    if cell.gain is not None:
        parts.append(f"({signed(cell.gain.value, decimals)})")
    return " ".join(parts)


def basis(result: Result) -> list[str]:
    """What stands behind our numbers: questions and pictures of each benchmark, from the first run that has them."""
    found: dict[str, str] = {}
    for columns, kind in ((result.columns, "public"), (result.own_columns, "own")):
        for i, column in enumerate(columns):
            cells: list[Cell] = [getattr(row, kind)[i] for row in result.rows]
            value = next((value for cell in cells for value in cell.values if value.samples), None)
            if value is not None and column.table in ("masks", "templates", "text"):
                unit = "answers" if column.table == "text" else "test questions"
                pictures = f" about {value.pictures} pictures" if value.pictures else ""
                found.setdefault(f"{column.benchmark} {unit}", f"{column.benchmark}: {value.samples} {unit}{pictures}")
    return list(found.values())


def terminal(result: Result) -> str:
    """The table for the terminal: our own columns, and how many of the paper's are filled."""
    width = max(len(row_title(row)) for row in result.rows)
    lines = [f"{result.paper}, {result.number}: {result.title} ({result.data}; preset {result.preset})"]
    marks = reasons(result)
    for row in result.rows:
        texts: list[Any] = [
            f"{' '.join(filter(None, (column.group, column.name)))} {cell_text(cell, digits(column))}"
            for column, cell in zip(result.own_columns, row.own, strict=True)
            if cell.values
        ]
        missing = [f"({marks[cell.reason]})" for cell in row.own if cell.reason]
        lines.append(f"  {row_title(row):<{width}}  {'; '.join(texts or dict.fromkeys(missing))}")
    return "\n".join([*lines, *(f"  ({letter}) {text}" for text, letter in marks.items())])
