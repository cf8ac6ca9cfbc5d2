"""The page of anyone's evaluation: models, benchmarks and faults that nobody foresaw."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from miras.dialogue.masks import encode
from miras.errors import DataError
from miras.evaluate.cases import choose_cases, fate
from miras.evaluate.galleries import PictureShelf
from miras.evaluate.lineup import Lineup
from miras.evaluate.records import PredictedMask, Prediction, Question
from miras.evaluate.report import write_evaluation_page
from miras.evaluate.scoring import Answered, Problems, Scored, pair, score_masks
from miras.evaluate.tables import scores_document
from miras.files import write_json, write_records
from miras.paths import Paths

from .conftest import HEIGHT, WIDTH, box_mask, make_config
from .html_page import Page

THINGS = ("mug", "lamp")


def question(name: str, image: int, *, turn: int = 0, benchmark: str = "odd <set>", **changes: Any) -> Question:
    """Asks for one of the conftest's boxes; "boat" is not there, "ghost" has no drawn mask."""
    values: dict[str, Any] = {
        "benchmark": benchmark,
        "dialogue_id": f"p{image}-{name}",
        "turn": turn,
        "image_id": f"p{image}",
        "size": (HEIGHT, WIDTH),
        "kind": "referring",
        "is_last": True,
        "asks_for_mask": True,
        "question": f"Where is the {name}?",
        "reference": f"Here: [OBJ]the {name}[SEG].",
        "targets": () if name == "boat" else (name,),
        "target": encode(box_mask(name)) if name in THINGS else None,
    }
    return Question(**values | changes)


def answer(asked: Question, model: str, name: str | None, **changes: Any) -> Prediction:
    """Points at one of the conftest's boxes, or at nothing."""
    mask = () if name is None else (PredictedMask(phrase=name, mask=encode(box_mask(name))),)
    values: dict[str, Any] = {
        "benchmark": asked.benchmark,
        "model": model,
        "history": "none",
        "dialogue_id": asked.dialogue_id,
        "turn": asked.turn,
        "answer": f"[OBJ]{name}[SEG]" if name else "Nothing.",
        "masks": mask,
    }
    return Prediction(**values | changes)


QUESTIONS = [question(name, image) for image in range(4) for name in (*THINGS, "boat", "ghost")]


def careful(asked: Question) -> Prediction:
    """Right but for a server that fails and an answer that is cut."""
    name = asked.dialogue_id.partition("-")[2]
    if asked.dialogue_id == "p0-mug":
        return answer(asked, "a/b|c", None, answer="", error="HTTP 429 <slow down>")
    return answer(asked, "a/b|c", name if name in THINGS else None, is_cut=asked.dialogue_id == "p1-mug")


def careless(asked: Question) -> Prediction:
    """Points at the lamp, whatever is asked."""
    return answer(asked, "x" * 60, "lamp")


def write_evaluation(
    folder: Path, predictions: Sequence[Prediction], questions: Sequence[Question] = QUESTIONS
) -> Path:
    """The folder as `miras score` writes it."""
    problems = Problems()
    answered = pair(questions, predictions, problems)
    folder.mkdir()
    write_records(folder / "questions.jsonl", questions)
    write_records(folder / "predictions.jsonl", predictions)
    write_json(folder / "scores.json", scores_document(answered, score_masks(answered), make_config()))
    return folder


@pytest.fixture
def others(paths: Paths) -> Path:
    """An evaluation of two models nobody knows on a benchmark nobody knows."""
    return write_evaluation(Path("others"), [model(asked) for model in (careless, careful) for asked in QUESTIONS])


def page_of(folder: Path, pictures: PictureShelf | None = None) -> Page:
    written = write_evaluation_page(folder, pictures, title="Others", num_examples=2, num_failures=2, seed=0)
    assert written == folder / "report.html"
    return Page(written.read_text(encoding="utf-8"))


def change_scores(folder: Path, **changes: Any) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    (folder / "scores.json").write_text(json.dumps({**changes, "tables": scores["tables"] | changes.get("tables", {})}))


def test_names_that_nobody_knows_are_shown_as_they_are(others: Path, paths: Paths) -> None:
    page = page_of(others, PictureShelf.of_data_set(paths))
    assert all(name in page.text for name in ("odd <set>", "a/b|c", "x" * 60))
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert page.tags.count("img") >= 9


def test_the_model_with_the_best_score_leads(others: Path) -> None:
    source = write_evaluation_page(others, None, title="t", num_examples=1, num_failures=1, seed=0).read_text()
    assert re.search(r'<div class="name">a/b\|c: masks found, cIoU</div>', source)
    assert source.index('<tr class="main"><th class="model" scope="row">a/b|c') < source.index('scope="row">xxx')


def test_failures_are_counted_by_kind_and_reason(others: Path) -> None:
    source = write_evaluation_page(others, None, title="t", num_examples=1, num_failures=1, seed=0).read_text()
    table, _, reasons = source[source.index('id="faults"') :].partition("</table>")
    rows = {
        name: re.findall(r'<td class="number[^"]*">([^<]*)</td>', row)
        for name, row in re.findall(r'<tr><th class="model" scope="row">(a/b\|c|x+)(.*?)</tr>', table)
    }
    # asked, wrong place, other phrase, no mask, absent, cut, failed, unscored
    assert rows["a/b|c"] == ["16", "0", "0", "1", "0", "1", "1", "4"]
    assert rows["x" * 60] == ["16", "0", "4", "0", "4", "0", "0", "4"]
    assert "HTTP 429 &lt;slow down&gt;" in reasons
    assert "4 questions cannot be scored: nobody has drawn the true mask." in source


def test_an_evaluation_without_trouble_says_so(paths: Paths) -> None:
    asked = [question("mug", image) for image in range(3)]
    folder = write_evaluation(Path("fine"), [answer(each, "m", "mug") for each in asked], asked)
    assert "Every question was answered in full" in page_of(folder).text


def test_baselines_alone_make_a_page(paths: Paths) -> None:
    asked = [question("mug", image) for image in range(2)]
    predictions = [answer(each, "whole-image", "lamp", history="any", answer="") for each in asked]
    assert "No model was asked" in page_of(write_evaluation(Path("b"), predictions, asked)).text


def test_a_score_that_a_row_lacks_is_a_dash(paths: Paths) -> None:
    asked = [question("boat", image) for image in range(2)]
    page = page_of(write_evaluation(Path("b"), [answer(each, "m", None) for each in asked], asked))
    assert "100.0" in page.text  # gIoU and N-acc
    assert "–" in page.text


def test_dialogues_stand_beside_with_what_was_not_asked(paths: Paths) -> None:
    told: dict[str, Any] = {"kind": "prist", "dialogue_id": "p0-talk", "benchmark": "dialogues"}
    asked = [
        question("mug", 0, **told, is_last=False, asks_for_mask=False, question="What is for tea?"),
        question("mug", 0, **told, turn=1),
    ]
    folder = write_evaluation(Path("t"), [answer(asked[1], "m", "mug")], asked)
    text = page_of(folder).text
    assert "What is for tea?" in text
    assert "(not asked)" in text
    assert "turn 2 of 2" in text


def test_a_missing_or_broken_picture_is_named_on_its_card(others: Path, paths: Paths) -> None:
    folder = Path("pictures with 'quotes'")
    shutil.copytree(paths.pictures, folder)
    (folder / "p0.png").unlink()
    (folder / "p2.png").write_bytes(b"\x89PNG no picture")
    text = page_of(others, PictureShelf.of_folder(folder)).text
    assert "picture p0: not among the 3 pictures given." in text
    assert "not a picture" in text


def test_a_picture_folder_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        PictureShelf.of_folder(Path("nowhere"))


def test_judge_scores_and_reasons_for_empty_columns_are_shown(others: Path) -> None:
    judged = {"model": "a/b|c", "history": "own", "dialogues": 9, "progression": 3.456, "win": 4, "tie": 3, "loss": 2}
    told = {"benchmark": "d", "model": "a/b|c", "history": "own", "answers": 5, "bleu4": 12.3, "rouge_l": 45.6}
    told |= {"meteor": None, "missing": {"meteor": "WordNet is not installed."}}
    change_scores(others, tables={"judge": [judged | {"unanswered": 1, "judge": "gpt-x"}], "text": [told]})
    text = page_of(others).text
    assert "3.46" in text
    assert "gpt-x" in text
    assert "METEOR is empty: WordNet is not installed." in text
    assert "BERTScore is empty: no encoder is named (evaluate.bert_score)." in text


def test_scores_of_other_predictions_are_refused(others: Path) -> None:
    lines = (others / "predictions.jsonl").read_text().splitlines(keepends=True)
    (others / "predictions.jsonl").write_text("".join(lines[: len(QUESTIONS)]))
    with pytest.raises(
        DataError, match=r"scores.json: is not of the predictions beside it \(odd <set> / a/b\|c / none"
    ):
        page_of(others)
    assert not (others / "report.html").exists()


def test_missing_predictions_are_refused_unless_the_scores_state_them(others: Path) -> None:
    lines = (others / "predictions.jsonl").read_text().splitlines(keepends=True)
    (others / "predictions.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(DataError, match=r"questions without prediction: 1"):
        page_of(others)
    change_scores(others, unanswered=1)
    assert "1 questions have no prediction at all" in page_of(others).text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tables": {}}', '{"tables": {"masks": []}}'])
def test_a_damaged_scores_file_is_one_message(others: Path, content: str) -> None:
    (others / "scores.json").write_text(content)
    with pytest.raises(DataError, match=r"scores.json: no scores .*Score the predictions again"):
        page_of(others)


# --- which cases are shown


def scored(predictions: Sequence[Prediction]) -> list[Scored]:
    return score_masks(pair(QUESTIONS, predictions, Problems()))


def test_no_case_is_shown_twice_and_few_cases_are_failures() -> None:
    items = scored([careful(asked) for asked in QUESTIONS])
    chosen = choose_cases(items, num_examples=2, num_failures=2, num_random=9, seed=0)
    keys = [item.question.key for cases in chosen.values() for item in cases]
    assert len(keys) == len(set(keys)) == 8
    assert [item.sample.iou for item in chosen["worst"]] == [0.0, 1.0]
    few = choose_cases(items[:1], num_examples=2, num_failures=2, num_random=2, seed=0)
    assert list(few) == ["worst"]


def test_the_median_cases_lie_between_the_best_and_the_worst() -> None:
    def part(asked: Question, columns: int) -> Prediction:
        mask = box_mask("lamp")
        mask[:, 18 + columns :] = False
        return answer(asked, "m", None, masks=(PredictedMask(mask=encode(mask)),))

    asked = [question("lamp", image) for image in range(9)]
    items = [Answered(each, part(each, columns)) for columns, each in enumerate(asked, 1)]
    chosen = choose_cases(score_masks(items), num_examples=1, num_failures=1, num_random=0, seed=0)
    assert {name: round(12 * item.sample.iou) for name, (item,) in chosen.items()} == {
        "best": 9,
        "median": 5,
        "worst": 1,
    }


def test_things_marked_that_are_not_there_have_a_choice_of_their_own() -> None:
    chosen = choose_cases(
        scored([careless(asked) for asked in QUESTIONS]), num_examples=0, num_failures=3, num_random=0, seed=0
    )
    assert {fate(item) for item in chosen["absent"]} == {"absent"}
    assert len(chosen["absent"]) == 3


# --- which model leads


def row(model: str, ciou: float, history: str = "none") -> dict[str, Any]:
    return {"benchmark": "b", "model": model, "history": history, "ciou": ciou}


def test_the_final_model_comes_first_baselines_last_and_others_by_their_score() -> None:
    rows = [row("largest-object", 90), row("low", 1), row("no-picture", 99), row("high", 5), row("stage2", 0)]
    lineup = Lineup.of(rows)
    assert lineup.models == ("stage2", "high", "low", "no-picture", "largest-object")
    assert len({lineup.colour(model) for model in lineup.models}) == 5
    assert lineup.leading(rows) == row("stage2", 0)
    assert lineup.leading(rows[:4]) == row("high", 5)
