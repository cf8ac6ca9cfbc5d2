from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from miras.card.gallery import answer_pieces
from miras.errors import DataError
from miras.evaluate.config import ReportConfig
from miras.evaluate.data_facts import data_facts
from miras.evaluate.report import run
from miras.files import write_json
from miras.generate.written.use import ModelUse
from miras.llm.records import Usage
from miras.paths import Paths
from miras.sources import scenes

from .conftest import NUM_PICTURES
from .html_page import Page


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


def test_what_scrolls_can_be_reached_by_keyboard(evaluated: Paths) -> None:
    assert Page(make_report(evaluated)).unlabelled == []


def test_links_lead_to_parts_of_the_page(evaluated: Paths) -> None:
    source = make_report(evaluated)
    names = {address[1:] for address in Page(source).addresses if address.startswith("#")}
    assert {"benchmark-1", "faults", "training", "data"} <= names
    assert names <= set(re.findall(r'id="([^"]+)"', source))


def test_the_page_shows_the_numbers_of_the_scores(evaluated: Paths) -> None:
    text = Page(make_report(evaluated)).text
    scores = json.loads(evaluated.scores.read_text())
    for key in ("dialogues_own_ciou", "dialogues_reference_ciou", "dialogues_none_ciou", "queries_ciou"):
        assert f"{scores[key]:.1f}" in text, key
    for row in scores["tables"]["masks"]:
        assert f"{row['ciou']:.1f}" in text
        assert f"{row['boundary_iou']:.1f}" in text
    assert scores["tables"]["text"][0]["bleu_signature"] in text
    assert "own wording" in text


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
    assert all(f"| {row['ciou']:.2f} |" in text for row in rows if not row["benchmark"].endswith("-lisa"))
    assert "| stage 2 | own history | 100.00 |" in text
    assert not re.search(r"<(div|b|table)", text)


def test_a_report_without_scores_names_the_stage_to_run(paths: Paths) -> None:
    with pytest.raises(DataError, match=r"scores.json: no such file; run the stage evaluate"):
        run(paths=paths, work=Path("work"), report=ReportConfig(title="t", num_examples=1, num_failures=1, seed=0))


def test_public_benchmarks_stand_in_the_report_with_what_was_left_out(evaluated: Paths) -> None:
    folder = evaluated.public_evaluations / "refcoco-val"
    folder.mkdir(parents=True)
    scores = json.loads(evaluated.scores.read_text())
    rows = [row | {"benchmark": "refcoco-val", "ciou": 12.34} for row in scores["tables"]["masks"][:1]]
    write_json(folder / "scores.json", {"left_out": 7, "tables": {"masks": rows}})
    text = Page(make_report(evaluated)).text
    assert "refcoco-val 7 records could not be read" in text
    assert "12.3" in text
    assert "| refcoco-val | stage 1 |" in (Path(evaluated.report) / "report.md").read_text()


def test_words_of_the_data_set_are_counted_once(paths: Paths) -> None:
    facts = data_facts(paths)
    assert facts["num_pictures"] == NUM_PICTURES
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
    pieces = answer_pieces("Here is [OBJ]the mug[SEG], [SEG] yes.")
    assert [(piece.text, piece.is_phrase) for piece in pieces] == [
        ("Here is ", False),
        ("the mug", True),
        (",  yes.", False),
    ]


def test_what_a_language_model_did_stands_in_the_report(evaluated: Paths) -> None:
    assert "written or polished by" not in make_report(evaluated)
    usage = {"prompt_tokens": 9000, "answer_tokens": 345, "cost_usd": 0.5}
    used = ModelUse(
        model="<gpt>",
        prompts_sha256="0",
        answered=17,
        unanswered={"refused": 2, "malformed": 1},
        calls=20,
        cached=0,
        repairs=3,
        damaged=0,
        retries={},
        usage=Usage(**usage),
        unconfirmed_usd=0.0,
        waited_s=0.0,
        spent_tokens=9345,
        spent_usd=0.5,
    )
    write_json(Path(evaluated.generate) / "model.json", used.model_dump())
    write_json(Path(evaluated.generate) / "polished.json", {"polished": 5, "unchanged": 2})
    text = " ".join(Page(make_report(evaluated)).text.split())
    assert "polished by <gpt>: 17 questions answered, 3 not (2 refused, 1 malformed), 3 repairs; 9,345 tokens" in text
    assert "Polished: polished 5, unchanged 2." in text
