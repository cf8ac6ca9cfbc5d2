"""The page, the Markdown and the data of a finished table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from miras.reproduce.cells import Cell, Gain, Interval
from miras.reproduce.records import Request
from miras.reproduce.rendering import cell_text, reasons, signed, terminal, write
from miras.reproduce.results import Result, collect
from tests.unit.reproduce.conftest import leave, mask_row


class Outside(HTMLParser):
    """Collects what a page would load, and how many cells each table row has."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.rows: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "link") and not str(values.get("href", values.get("src"))).startswith(
            "data:"
        ):
            self.loads.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th") and self.rows:
            self.rows[-1] += int(values.get("colspan") or 1)


@pytest.fixture
def result(tmp_path: Path, asked: Callable[[int], Request]) -> Result:
    """Two seeds of which one failed, with a message that is markup."""
    found = asked(2)
    for run in found.runs:
        message = "expected <b>loss</b>" if (run.arm, run.seed) == ("off", 1) else ""
        leave(tmp_path, run, [mask_row(50.0 - run.seed)], message=message)
    return collect(found, root=tmp_path)


def test_the_page_loads_nothing_and_its_rows_are_whole(result: Result, tmp_path: Path) -> None:
    page = write(result, tmp_path / "out").read_text("utf-8")
    outside = Outside()
    outside.feed(page)
    assert outside.loads == []
    table_rows = outside.rows[: 3 + len(result.rows) + 1]  # three heads, one section
    assert set(table_rows) == {1 + len(result.columns) + len(result.own_columns)}
    assert "expected &lt;b&gt;loss&lt;/b&gt;" in page
    assert "<b>loss</b>" not in page


def test_every_number_links_its_mlflow_run(result: Result, tmp_path: Path) -> None:
    write(result, tmp_path)
    for file in ("table.html", "table.md", "table.json"):
        text = (tmp_path / file).read_text("utf-8")
        for run in ("on0", "on1", "off0"):
            assert f"http://127.0.0.1:5000/#/experiments/1/runs/{run}" in text, (file, run)


def test_markdown_has_as_many_cells_in_every_row(result: Result, tmp_path: Path) -> None:
    write(result, tmp_path)
    blocks = re.findall(r"(?:^\|.*\n)+", (tmp_path / "table.md").read_text("utf-8"), re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1
        assert len(block.splitlines()) == 2 + len(result.rows)


def test_the_data_can_be_read_back(result: Result, tmp_path: Path) -> None:
    write(result, tmp_path)
    content = json.loads((tmp_path / "table.json").read_text("utf-8"))
    assert content.pop("version") == 1
    assert Result.model_validate(content) == result


def test_every_gap_has_a_letter_that_is_explained(result: Result, tmp_path: Path) -> None:
    write(result, tmp_path)
    page = (tmp_path / "table.html").read_text("utf-8")
    for text, letter in reasons(result).items():
        assert f"<sup>{letter}</sup>" in page
        assert f"<li><b>{letter}</b>{text}" in page
    assert "<li>refcoco-val: no scores" in page
    assert "<li>refcoco-testA: not in evaluate.benchmarks" in page


def test_what_a_cell_says() -> None:
    cell = Cell(
        mean=41.26,
        spread=1.31,
        interval=Interval(low=-0.5, high=44.0, over="seeds"),
        gain=Gain(value=-2.04, interval=None),
    )
    assert cell_text(cell, 1) == "41.3 ± 1.3 [−0.5 to 44.0] (−2.0)"
    assert signed(-0.01) == "0.0"


def test_the_terminal_says_the_numbers_and_the_reasons(result: Result) -> None:
    text = terminal(result)
    assert "dialogues cIoU 49.5" in text
    assert "no key" in text
