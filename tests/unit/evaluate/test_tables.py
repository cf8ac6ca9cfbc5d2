from __future__ import annotations

from pathlib import Path

import pytest

from miras.evaluate.baselines import predict_baselines
from miras.evaluate.held_out import load_held_out
from miras.evaluate.predict import Journal, Pass, predict
from miras.evaluate.records import Prediction
from miras.evaluate.tables import Row, find_row, mask_rows, outcome_rows, score_masks, scores_document, text_rows
from miras.model.records import Request, Response
from miras.paths import Paths

from .conftest import BOXES, HEIGHT, WIDTH, ScriptedModel, make_config, points_at, says, wants_mask


def box_area(name: str) -> int:
    x0, y0, x1, y1 = BOXES[name]
    return (x1 - x0) * (y1 - y0)


def predictions_of(paths: Paths, model: ScriptedModel, *steps: Pass) -> list[Prediction]:
    held_out, journal = load_held_out(paths, make_config()), Journal(Path("journal"))
    for step in steps:
        list(predict(step, model, held_out=held_out, journal=journal, batch_size=4))
    return list(journal.predictions.values())


def rows_of(predictions: list[Prediction]) -> list[Row]:
    return mask_rows(score_masks(predictions), predictions, rounds=100, seed=0)


def perfect(request: Request) -> Response:
    """Right where the fixture asks for the mug of a dialogue."""
    return points_at("mug") if wants_mask(request) else says("A mug & a lamp <b>stand</b> there.")


def test_baselines_have_the_scores_that_follow_from_areas(paths: Paths) -> None:
    held_out = load_held_out(paths, make_config())
    rows = rows_of(predict_baselines(held_out, seed=0))
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
    held_out = load_held_out(paths, make_config())
    drawn = {
        seed: [p.groups for p in predict_baselines(held_out, seed=seed) if p.model == "random-object"]
        for seed in (0, 0, 1)
    }
    assert drawn[0] != drawn[1]
    for prediction in predict_baselines(held_out, seed=0):
        if prediction.model == "random-object" and prediction.targets:
            assert all(group.mask != prediction.target for group in prediction.groups)


def test_a_model_that_finds_the_mug_scores_100_on_dialogues(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass("dialogues", "stage2", "own"))
    (row,) = rows_of(found)
    assert (row["ciou"], row["giou"], row["f1"], row["precision_at_90"]) == (100.0,) * 4
    assert (row["samples"], row["pictures"], row["missing_masks"], row["phrase_match"]) == (4, 4, 0, 100.0)


def test_answers_without_mask_are_counted_not_skipped(paths: Paths) -> None:
    silent = ScriptedModel(lambda request: points_at("mug") if request.image_id == "p0" else says("I see."))
    (row,) = rows_of(predictions_of(paths, silent, Pass("dialogues", "stage2", "none")))
    assert (row["samples"], row["missing_masks"]) == (4, 3)
    assert row["ciou"] == row["giou"] == 25.0


def test_silence_is_right_only_where_there_is_nothing(paths: Paths) -> None:
    silent = predictions_of(paths, ScriptedModel(lambda _: says("No.")), Pass("queries", "stage2", "none"))
    (row,) = rows_of(silent)
    assert (row["no_target"], row["no_target_accuracy"]) == (4, 100.0)
    assert row["giou"] == pytest.approx(100 * 4 / 12, abs=0.005)
    assert row["ciou"] == 0.0


def test_the_right_phrase_in_the_wrong_place_is_told_from_a_wrong_phrase(paths: Paths) -> None:
    said = {"p0": "mug", "p1": "mug", "p2": "lamp"}

    def answer(request: Request) -> Response:
        if request.image_id == "p3":
            return says("I cannot tell.")
        return points_at("mug" if request.image_id == "p0" else "lamp", said=said[request.image_id])

    found = predictions_of(paths, ScriptedModel(answer), Pass("dialogues", "stage2", "none"))
    (row,) = outcome_rows(score_masks(found))
    assert [row[key] for key in ("found", "wrong_place", "other_phrase", "no_mask")] == [1, 1, 1, 1]


def test_text_is_scored_on_turns_before_the_last(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass("dialogues", "stage2", "own"))
    (row,) = text_rows(found)
    assert (row["answers"], row["stray_masks"]) == (8, 0)
    assert "tok:13a" in row["bleu_signature"]


def test_a_target_without_stored_mask_is_unscored_and_counted(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass("dialogues", "stage2", "none"))
    found[0] = found[0].model_copy(update={"target": None})
    (row,) = rows_of(found)
    assert (row["samples"], row["unscored"]) == (3, 1)


def test_headlines_name_only_what_was_measured(paths: Paths) -> None:
    found = predictions_of(paths, ScriptedModel(perfect), Pass("dialogues", "stage2", "own"))
    scores = scores_document(score_masks(found), found, rounds=100, seed=0)
    assert scores["dialogues_own_ciou"] == 100.0
    assert "dialogues_none_ciou" not in scores
    assert list(scores)[-1] == "tables"
    flat = [value for key, value in scores.items() if key != "tables"]
    assert all(isinstance(value, float) for value in flat)
