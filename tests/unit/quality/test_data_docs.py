"""The Data Docs open offline and tell what was found."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from miras.paths import Paths
from miras.quality.stage import run
from tests.unit.quality.good_records import CHECK, good, paths_in, square, store

LENIENT = CHECK.model_copy(update={"max_quarantined_share": 0.9})


class Addresses(HTMLParser):
    """Collects every address that a page fetches or links to, and all ids."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "background"):
                self.found.append(value or "")
            if name == "id":
                self.ids.add(value or "")


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data Docs of a small and odd data set; tests only read them."""
    workspace = tmp_path_factory.mktemp("docs")
    paths = paths_in(workspace)
    data = good("good") + good("small").with_region(1, mask=square(1))
    evil = good("evil").with_dialogue(2, focus='<script src="https://example.org/x.js">')
    store(paths, data + evil)
    run(paths=paths, work=workspace, check=LENIENT)
    return Path(paths.data_docs)


def test_no_page_asks_for_anything_from_the_network(docs: Path) -> None:
    pages = sorted(docs.glob("*.html"))
    assert [page.stem for page in pages] == ["data_set", "dialogues", "index", "masks", "quarantine", "regions"]
    for page in pages:
        text = page.read_text("utf-8")
        parser = Addresses()
        parser.feed(text)
        assert not [address for address in parser.found if re.match(r"(\w+:)?//", address)]
        assert "url(" not in text
        assert "@import" not in text
        assert "<script" not in text


def test_every_link_leads_somewhere(docs: Path) -> None:
    for page in docs.glob("*.html"):
        parser = Addresses()
        parser.feed(page.read_text("utf-8"))
        for address in parser.found:
            if address.startswith("data:"):
                continue
            name, _, anchor = address.partition("#")
            assert (docs / name).is_file(), address
            if anchor:
                target = Addresses()
                target.feed((docs / name).read_text("utf-8"))
                assert anchor in target.ids


def test_pages_tell_rules_in_words_with_their_expectation(docs: Path) -> None:
    masks = (docs / "masks.html").read_text("utf-8")
    assert "A region that a dialogue asks for has at least 304 pixels" in masks
    assert "expect_column_values_to_be_between(column=&#34;area_canvas_px&#34;, min_value=304)" in masks
    assert "small/handle" in masks
    assert "1 failed" in masks


def test_the_quarantine_shows_records_with_reason_and_picture(docs: Path) -> None:
    quarantine = (docs / "quarantine.html").read_text("utf-8")
    assert "small-prist" in quarantine
    assert "too small to be a target: 256 px on the 1024 canvas" in quarantine
    assert "data:image/jpeg;base64," in quarantine


def test_raw_results_are_those_of_great_expectations(docs: Path) -> None:
    raw = json.loads((docs / "results" / "masks.json").read_text("utf-8"))
    (failed,) = [result for result in raw["results"] if not result["success"]]
    assert failed["expectation_config"]["type"] == "expect_column_values_to_be_between"
    (where,) = failed["result"]["unexpected_index_list"]
    assert where["record_id"] == "small/handle"
    assert failed["result"]["unexpected_list"] == [256.0]


def test_pages_are_written_without_the_picture_files(paths: Paths, work: Path) -> None:
    store(paths, good("good"))
    for picture in paths.pictures.iterdir():
        picture.write_bytes(b"not a picture")
    run(paths=paths, work=work, check=CHECK)
    assert "data:image/jpeg;base64," in Path(paths.data_docs, "masks.html").read_text("utf-8")


def test_the_page_of_the_whole_data_set_tells_what_was_not_measured_and_what_follows(docs: Path) -> None:
    page = (docs / "data_set.html").read_text("utf-8")
    assert "mean IoU above 0.80. Not asked where nobody drew." in page
    assert "not measured" in page
    assert "stops the pipeline" in page


def test_the_overview_shows_focus_classes_and_progress(docs: Path) -> None:
    index = (docs / "index.html").read_text("utf-8")
    assert "<td>article</td><td>physical objects</td>" in index
    assert "Later turns that take up a word of earlier ones" in index
