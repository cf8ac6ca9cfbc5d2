from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from miras.errors import DataError
from miras.evaluate.held_out import HeldOutSet, choose, load_held_out
from miras.evaluate.predict import Journal, Pass, open_journal, predict
from miras.evaluate.records import Prediction
from miras.model.records import Request, Response
from miras.paths import Paths

from .conftest import ScriptedModel, make_config, points_at, says, wants_mask


def echo(request: Request) -> Response:
    """Names the question and how much was said before it."""
    if wants_mask(request):
        return points_at("mug")
    return says(f"{request.question} after {len(request.history)}")


def answers(step: Pass, held_out: HeldOutSet, journal: Journal, model: ScriptedModel) -> list[Prediction]:
    for _ in predict(step, model, held_out=held_out, journal=journal, batch_size=3):
        pass
    return list(journal.predictions.values())


def histories(model: ScriptedModel, *, image_id: str) -> list[tuple[tuple[str, str], ...]]:
    return [request.history for request in model.requests if request.image_id == image_id]


@pytest.fixture
def held_out(paths: Paths) -> HeldOutSet:
    return load_held_out(paths, make_config())


QUESTIONS = ("What stands on the table?", "Which one is for tea?", "Segment what we spoke of.")


def test_reference_history_is_the_reference_answers(held_out: HeldOutSet, tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    answers(Pass("dialogues", "m", "reference"), held_out, Journal(tmp_path / "j"), model)
    first, second = (QUESTIONS[0], "A mug & a lamp <b>stand</b> there."), (QUESTIONS[1], "The mug is for tea.")
    assert histories(model, image_id="p1") == [(), (first,), (first, second)]


def test_own_history_is_what_the_model_said_itself(held_out: HeldOutSet, tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    answers(Pass("dialogues", "m", "own"), held_out, Journal(tmp_path / "j"), model)
    first, second = (QUESTIONS[0], f"{QUESTIONS[0]} after 0"), (QUESTIONS[1], f"{QUESTIONS[1]} after 1")
    assert histories(model, image_id="p1") == [(), (first,), (first, second)]


def test_no_history_asks_the_last_question_alone(held_out: HeldOutSet, tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    found = answers(Pass("dialogues", "m", "none"), held_out, Journal(tmp_path / "j"), model)
    assert {(request.history, request.question) for request in model.requests} == {((), QUESTIONS[2])}
    assert all(prediction.is_last and prediction.turn == 2 for prediction in found)


def test_markers_of_own_answers_stay_in_the_history(held_out: HeldOutSet, tmp_path: Path) -> None:
    model = ScriptedModel(lambda request: points_at("lamp"))
    answers(Pass("dialogues", "m", "own"), held_out, Journal(tmp_path / "j"), model)
    assert histories(model, image_id="p0")[1] == ((QUESTIONS[0], "It is [OBJ]lamp[SEG]."),)


class InterruptedRunError(Exception):
    """The run was stopped."""


class FailingModel(ScriptedModel):
    """Stops at its third batch."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        if len(self.batch_sizes) == 2:
            raise InterruptedRunError
        return super().respond(requests)


def test_an_interrupted_run_ends_with_the_same_predictions(held_out: HeldOutSet, tmp_path: Path) -> None:
    step = Pass("dialogues", "m", "own")
    whole = ScriptedModel(echo)
    expected = answers(step, held_out, Journal(tmp_path / "whole"), whole)
    with pytest.raises(InterruptedRunError):
        answers(step, held_out, Journal(tmp_path / "cut"), FailingModel(echo))
    with (tmp_path / "cut").open("a") as lines:
        lines.write('{"benchmark": "dialo')  # the line that was being written
    rest = ScriptedModel(echo)
    assert answers(step, held_out, Journal(tmp_path / "cut"), rest) == expected
    assert rest.requests == whole.requests[sum(whole.batch_sizes[:2]) :]
    assert answers(step, held_out, Journal(tmp_path / "cut"), ScriptedModel(echo)) == expected


def test_a_journal_of_other_weights_is_not_taken_up(held_out: HeldOutSet, tmp_path: Path) -> None:
    step, place = Pass("queries", "m", "none"), tmp_path / "predictions.jsonl"
    answers(step, held_out, open_journal(place, fingerprint={"weights": "a"}), ScriptedModel(echo))
    assert open_journal(place, fingerprint={"weights": "a"}).predictions
    assert not open_journal(place, fingerprint={"weights": "b"}).predictions


def test_several_targets_are_joined_into_one_mask(held_out: HeldOutSet, tmp_path: Path) -> None:
    found = answers(Pass("queries", "m", "none"), held_out, Journal(tmp_path / "j"), ScriptedModel(echo))
    both = next(prediction for prediction in found if prediction.dialogue_id == "p0-all")
    assert both.targets == ("mug", "lamp")
    assert both.target is not None
    assert held_out.regions["p0-mug"].mask != both.target


def test_every_picture_comes_once_before_any_comes_twice(held_out: HeldOutSet) -> None:
    queries = held_out.benchmarks["queries"]
    chosen = choose(queries, limit=4, seed=0)
    assert {dialogue.image_id for dialogue in chosen} == {"p0", "p1", "p2", "p3"}
    assert chosen == choose(list(reversed(queries)), limit=4, seed=0)
    assert chosen != choose(queries, limit=4, seed=1)


def test_a_test_split_without_questions_says_what_to_do(paths: Paths) -> None:
    paths.split_dialogues("test").write_text("")
    with pytest.raises(DataError, match=r"no dialogue to score among 0 lines.*split.test_share"):
        load_held_out(paths, make_config())


def test_a_dialogue_about_an_unknown_region_is_named(paths: Paths) -> None:
    paths.checked_regions.write_text("")
    with pytest.raises(DataError, match=r"test.jsonl: dialogue p\d-\w+: points at unknown regions p\d-"):
        load_held_out(paths, make_config())
