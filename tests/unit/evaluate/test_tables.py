from __future__ import annotations

from pathlib import Path

import pytest

from miras.evaluate.baselines import predict_baselines
from miras.evaluate.benchmarks import own_benchmarks
from miras.evaluate.predict import Journal, Pass, predict
from miras.evaluate.records import Prediction
from miras.evaluate.scoring import Answered, Problems, pair, score_masks
from miras.evaluate.tables import Row, find_row, mask_rows, outcome_rows, scores_document, text_rows
from miras.model.records import Request, Response
from miras.paths import Paths

from .conftest import BOXES, HEIGHT, WIDTH, ScriptedModel, make_config, points_at, says, wants_mask


def box_area(name: str) -> int:
    x0, y0, x1, y1 = BOXES[name]
    return (x1 - x0) * (y1 - y0)


def predictions_of(paths: Paths, model: ScriptedModel, *steps: Pass) -> list[Prediction]:
    data, journal = own_benchmarks(paths, make_config()), Journal(Path("journal"), {})
    for step in steps:
        list(predict(step, model, data.benchmarks[step.benchmark], data=data, journal=journal))
    return list(journal.predictions.values())


def answered_of(paths: Paths, predictions: list[Prediction]) -> list[Answered]:
    problems = Problems()
    answered = pair(own_benchmarks(paths, make_config()).questions(), predictions, problems)
    assert not problems, problems.text()
    return answered


def rows_of(paths: Paths, predictions: list[Prediction]) -> list[Row]:
    answered = answered_of(paths, predictions)
    return mask_rows(score_masks(answered), answered, make_config())


def perfect(request: Request) -> Response:
    """Right where the fixture asks for the mug of a dialogue."""
    return points_at("mug") if wants_mask(request) else says("A mug & a lamp <b>stand</b> there.")


def test_baselines_have_the_scores_that_follow_from_areas(paths: Paths) -> None:
    data = own_benchmarks(paths, make_config())
    rows = rows_of(paths, predict_baselines(data, ["dialogues", "queries"], seed=0))
    mug, lamp = box_area("mug"), box_area("lamp")
    whole = find_row(rows, benchmark="dialogues", model="whole-image")
    largest = find_row(rows, benchmark="dialogues", model="largest-object")
    assert whole
    assert whole["ciou"] == pytest.approx(100 * mug / (HEIGHT * WIDTH), abs=0.005)
    assert whole["recall"] == 100.0
    assert largest
    assert largest["ciou"] == 0.0  # the lamp is larger than the mug and does not touch it
    assert lamp > mug


def test_a_random_object_is_never_the_target_and_depends_on_the_seed(paths: Paths) -> None:
    data = own_benchmarks(paths, make_config())
    names = ["dialogues", "queries"]
    drawn = {
        seed: [p.masks for p in predict_baselines(data, names, seed=seed) if p.model == "random-object"]
        for seed in (0, 0, 1)
    }
    assert drawn[0] != drawn[1]
    for item in answered_of(paths, predict_baselines(data, names, seed=0)):
        if item.prediction.model == "random-object" and item.question.targets:
            assert all(predicted.mask != item.question.target for predicted in item.prediction.masks)


def test_a_model_that_finds_the_mug_scores_100_on_dialogues(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass(benchmark="dialogues", model="stage2", history="own"))
    (row,) = rows_of(paths, found)
    assert (row["ciou"], row["giou"], row["f1"], row["precision_at_90"]) == (100.0,) * 4
    assert (row["samples"], row["pictures"], row["missing_masks"], row["phrase_match"]) == (4, 4, 0, 100.0)


def test_answers_without_mask_are_counted_not_skipped(paths: Paths) -> None:
    silent = ScriptedModel(lambda request: points_at("mug") if request.image_id == "p0" else says("I see."))
    (row,) = rows_of(paths, predictions_of(paths, silent, Pass(benchmark="dialogues", model="stage2", history="none")))
    assert (row["samples"], row["missing_masks"]) == (4, 3)
    assert row["ciou"] == row["giou"] == 25.0


def test_silence_is_right_only_where_there_is_nothing(paths: Paths) -> None:
    silent = predictions_of(
        paths, ScriptedModel(lambda _: says("No.")), Pass(benchmark="queries", model="stage2", history="none")
    )
    (row,) = rows_of(paths, silent)
    assert (row["no_target"], row["no_target_accuracy"]) == (4, 100.0)
    assert row["giou"] == pytest.approx(100 * 4 / 12, abs=0.005)
    assert row["ciou"] == 0.0


def test_the_right_phrase_in_the_wrong_place_is_told_from_a_wrong_phrase(paths: Paths) -> None:
    said = {"p0": "mug", "p1": "mug", "p2": "lamp"}

    def answer(request: Request) -> Response:
        if request.image_id == "p3":
            return says("I cannot tell.")
        return points_at("mug" if request.image_id == "p0" else "lamp", said=said[request.image_id])

    found = predictions_of(paths, ScriptedModel(answer), Pass(benchmark="dialogues", model="stage2", history="none"))
    (row,) = outcome_rows(score_masks(answered_of(paths, found)))
    assert [row[key] for key in ("found", "wrong_place", "other_phrase", "no_mask")] == [1, 1, 1, 1]


def test_text_is_scored_on_turns_before_the_last(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass(benchmark="dialogues", model="stage2", history="own"))
    (row,) = text_rows(answered_of(paths, found), make_config())
    assert (row["answers"], row["stray_masks"]) == (8, 0)
    assert "tok:13a" in row["bleu_signature"]


def test_a_target_without_stored_mask_is_unscored_and_counted(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass(benchmark="dialogues", model="stage2", history="none"))
    answered = answered_of(paths, found)
    unknown = answered[0].question.model_copy(update={"target": None})
    answered[0] = Answered(unknown, answered[0].prediction)
    (row,) = mask_rows(score_masks(answered), answered, make_config())
    assert (row["samples"], row["unscored"]) == (3, 1)


def test_headlines_name_only_what_was_measured(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass(benchmark="dialogues", model="stage2", history="own"))
    answered = answered_of(paths, found)
    scores = scores_document(answered, score_masks(answered), make_config())
    assert scores["dialogues_own_ciou"] == 100.0
    assert "dialogues_none_ciou" not in scores
    assert list(scores)[-1] == "tables"
    flat = [value for key, value in scores.items() if key != "tables"]
    assert all(isinstance(value, float) for value in flat)
