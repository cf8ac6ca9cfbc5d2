from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from miras.errors import DataError
from miras.evaluate.charts import Series, bar_chart, line_chart
from miras.evaluate.config import ReportConfig
from miras.evaluate.data_facts import data_facts
from miras.evaluate.report import answer_pieces, run
from miras.paths import Paths
from miras.sources import scenes


class Page(HTMLParser):
    """What a browser would ask for, and the text it would show."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def make_report(paths: Paths, title: str = "A <small> report") -> str:
    run(paths=paths, work=Path("work"), report=ReportConfig(title=title, num_examples=2, num_failures=2, seed=0))
    return paths.report_page.read_text(encoding="utf-8")


def test_the_page_asks_for_nothing_outside_itself(evaluated: Paths) -> None:
    source = make_report(evaluated)
    page = Page(source)
    assert page.addresses
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert "script" not in page.tags
    assert not re.search(r"https?://|url\(|@import", source)


def test_the_page_shows_the_numbers_of_the_scores(evaluated: Paths) -> None:
    text = Page(make_report(evaluated)).text
    scores = json.loads(evaluated.scores.read_text())
    for key in ("dialogues_own_ciou", "dialogues_reference_ciou", "dialogues_none_ciou", "queries_ciou"):
        assert f"{scores[key]:.1f}" in text, key
    for row in scores["tables"]["masks"]:
        assert f"{row['ciou']:.1f}" in text
    assert scores["tables"]["text"][0]["bleu_signature"] in text


def test_text_from_data_is_shown_as_text(evaluated: Paths) -> None:
    source = make_report(evaluated)
    assert "A &lt;small&gt; report" in source
    assert "reference: A mug &amp; a lamp &lt;b&gt;stand&lt;/b&gt; there." in source


def test_the_same_inputs_give_the_same_page(evaluated: Paths) -> None:
    assert make_report(evaluated) == make_report(evaluated)


def test_the_markdown_report_has_every_row(evaluated: Paths) -> None:
    make_report(evaluated)
    text = (Path(evaluated.report) / "report.md").read_text(encoding="utf-8")
    rows = json.loads(evaluated.scores.read_text())["tables"]["masks"]
    assert all(f"| {row['ciou']:.2f} |" in text for row in rows)
    assert "| stage 2 | its own | 100.00 |" in text


def test_a_report_without_scores_names_the_stage_to_run(paths: Paths) -> None:
    with pytest.raises(DataError, match=r"scores.json: no such file; run the stage evaluate"):
        run(paths=paths, work=Path("work"), report=ReportConfig(title="t", num_examples=1, num_failures=1, seed=0))


def test_words_of_the_data_set_are_counted_once(paths: Paths) -> None:
    facts = data_facts(paths)
    assert facts["num_pictures"] == 4
    assert not facts["is_rendered"]
    shown = {"what", "stands", "on", "the", "table", "a", "mug", "lamp", "b", "stand", "there"}
    shown |= {"which", "one", "is", "for", "tea", "segment", "we", "spoke", "of", "it", "all", "things", "and"}
    assert facts["vocabulary"] == len(shown | {"boat", "no", "colour", "red"})


def test_rendered_scenes_are_recognised_by_their_origin(paths: Paths) -> None:
    (scene,) = scenes.read(count=1, size_px=64, seed=0)
    lines = [json.loads(line) | {"origin": scene.origin} for line in paths.picture_table.read_text().splitlines()]
    paths.picture_table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert data_facts(paths)["is_rendered"]


def test_phrases_with_a_mask_are_marked_and_stray_markers_dropped() -> None:
    assert answer_pieces("Here is [OBJ]the mug[SEG], [SEG] yes.") == [
        {"text": "Here is ", "is_phrase": False},
        {"text": "the mug", "is_phrase": True},
        {"text": ",  yes.", "is_phrase": False},
    ]


def test_charts_name_their_lines_and_escape_them() -> None:
    line = line_chart([Series("a < b", "#000", [(0, 1), (10, 3)])], x_label="x", y_label="y")
    assert "a &lt; b" in line
    assert line.count("<polyline") == 1
    bars = bar_chart([Series("one", "#000", [(0, 20), (1, 55)])], categories=("fine", "coarse"), y_label="y")
    assert bars.count("<rect") == 2
    assert ">55</text>" in bars
