"""Predictions of somebody else: every fault is named with its place, and nothing is scored in spite of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miras.dialogue.masks import encode
from miras.errors import ConfigError, DataError
from miras.evaluate.benchmarks import own_benchmarks
from miras.evaluate.commands import Settings, score_file, write_questions
from miras.evaluate.records import PredictedMask, Prediction, Question
from miras.evaluate.scoring import MISSING, Problems, pair
from miras.files import read_records, write_records
from miras.paths import Paths

from .conftest import box_mask, make_config


def questions_of(paths: Paths) -> list[Question]:
    return list(own_benchmarks(paths, make_config()).questions())


def perfect(questions: list[Question]) -> list[Prediction]:
    """The truth as predictions."""
    return [
        Prediction(
            benchmark=question.benchmark,
            model="mine",
            dialogue_id=question.dialogue_id,
            turn=question.turn,
            answer=question.reference,
            masks=(PredictedMask(mask=question.target),) if question.target else (),
        )
        for question in questions
    ]


def score(paths: Paths, lines: list[Any], *, is_incomplete: bool = False) -> list[dict[str, Any]]:
    """Writes the lines and scores them."""
    write_records(Path("questions.jsonl"), questions_of(paths))
    texts = [line if isinstance(line, str) else line.model_dump_json() for line in lines]
    Path("mine.jsonl").write_text("".join(text + "\n" for text in texts), "utf-8")
    return score_file(
        Path("questions.jsonl"), Path("mine.jsonl"), Path("scored"), make_config(), is_incomplete=is_incomplete
    )


def test_the_truth_scores_100_everywhere(paths: Paths) -> None:
    rows = score(paths, list(perfect(questions_of(paths))))
    assert {(row["benchmark"], row["ciou"], row["giou"], row["unscored"]) for row in rows} == {
        ("dialogues", 100.0, 100.0, 0),
        ("queries", 100.0, 100.0, 0),
    }
    assert json.loads(Path("scored/scores.json").read_text())["unanswered"] == 0
    assert len(list(read_records(Path("scored/predictions.jsonl"), Prediction))) == len(questions_of(paths))


def with_mask(prediction: Prediction, mask: Any) -> str:
    """The prediction's line with another mask."""
    return json.dumps(prediction.model_dump(mode="json") | {"masks": [{"phrase": "", "mask": mask}]})


def test_every_fault_is_named_and_counted_and_nothing_is_written(paths: Paths) -> None:
    good = perfect(questions_of(paths))
    masked = [prediction for prediction in good if prediction.masks]
    code = masked[0].masks[0].mask
    wrong_size = encode(box_mask("mug")[:, :-1])
    lines = [
        *good[3:],
        good[4],
        good[5].model_copy(update={"dialogue_id": "p9-talk"}),
        good[6].model_copy(update={"turn": 7}),
        "{not json",
        '{"benchmark": "dialogues"}',
    ]
    kept = [prediction for prediction in masked if prediction in good[3:]][:2]
    lines[lines.index(kept[0])] = with_mask(kept[0], wrong_size.model_dump(mode="json"))
    lines[lines.index(kept[1])] = with_mask(kept[1], {"size": list(code.size), "counts": code.counts[:-2]})
    with pytest.raises(DataError) as refused:
        score(paths, lines)
    message = str(refused.value)
    for said in (
        "lines that are no prediction: 2 (line",
        "predictions for unknown questions: 2 (",
        "predictions given twice: 1 (",
        "unusable masks: 2 (",
        f"{MISSING}: 3 (",
        "nothing was scored",
    ):
        assert said in message, message
    assert not Path("scored").exists()


def test_unanswered_questions_can_be_borne_and_are_counted(paths: Paths) -> None:
    good = perfect(questions_of(paths))
    told = [prediction for prediction in good if prediction.benchmark == "dialogues"]
    with pytest.raises(DataError, match=rf"{MISSING}: 3 "):
        score(paths, told[3:])
    rows = score(paths, told[3:], is_incomplete=True)
    assert [row["samples"] for row in rows] == [3]
    assert json.loads(Path("scored/scores.json").read_text())["unanswered"] == 3


def test_masks_alone_are_enough(paths: Paths) -> None:
    asked = [question for question in questions_of(paths) if question.asks_for_mask]
    rows = score(paths, list(perfect(asked)))
    assert {row["ciou"] for row in rows} == {100.0}
    assert json.loads(Path("scored/scores.json").read_text())["tables"]["text"] == []


def test_some_words_but_not_all_are_missing_words(paths: Paths) -> None:
    told = [question for question in questions_of(paths) if question.benchmark == "dialogues"]
    problems = Problems()
    pair(told, perfect(told)[1:], problems)
    assert [len(places) for places in problems.found.values()] == [1]


def test_a_failed_answer_is_an_empty_mask_and_counted(paths: Paths) -> None:
    told = [question for question in questions_of(paths) if question.benchmark == "dialogues"]
    found = perfect(told)
    found[2] = found[2].model_copy(update={"masks": (), "answer": "", "error": "HTTP 500"})
    (row,) = score(paths, list(found))
    assert (row["samples"], row["failed"], row["missing_masks"]) == (4, 1, 1)
    assert row["giou"] == 75.0


def test_an_empty_benchmark_and_a_full_folder_are_refused(paths: Paths) -> None:
    Path("questions.jsonl").write_text("")
    Path("mine.jsonl").write_text("")
    with pytest.raises(DataError, match="an empty benchmark"):
        score_file(Path("questions.jsonl"), Path("mine.jsonl"), Path("scored"), make_config(), is_incomplete=False)
    Path("scored").mkdir()
    Path("scored/mine.txt").write_text("kept")
    with pytest.raises(ConfigError, match="scored: not empty"):
        score(paths, list(perfect(questions_of(paths))))
    assert Path("scored/mine.txt").read_text() == "kept"


def test_questions_are_written_with_their_pictures(paths: Paths) -> None:
    count = write_questions("test", Path("mine/test"), Settings(paths, make_config()))
    asked = list(read_records(Path("mine/test/questions.jsonl"), Question))
    assert len(asked) == count
    assert {file.name for file in Path("mine/test/pictures").iterdir()} == {question.file_name for question in asked}
    assert [path.name for path in Path("mine").iterdir()] == ["test"]
    with pytest.raises(ConfigError, match=r"benchmark 'refcoco': unknown; there are test\."):
        write_questions("refcoco", Path("mine/other"), Settings(paths, make_config()))
