from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from miras.errors import DataError
from miras.evaluate.benchmarks import BenchmarkSet, choose, own_benchmarks
from miras.evaluate.predict import Journal, Pass, collect, groups, predict
from miras.evaluate.records import Prediction
from miras.model.records import Request, Response
from miras.paths import Paths

from .conftest import ScriptedModel, make_config, points_at, says, wants_mask


def echo(request: Request) -> Response:
    """Names the question and how much was said before it."""
    if wants_mask(request):
        return points_at("mug")
    return says(f"{request.question} after {len(request.history)}")


def answers(step: Pass, data: BenchmarkSet, folder: Path, model: ScriptedModel) -> list[Prediction]:
    """The predictions of a pass by one process, taken up where the folder's journals end."""
    journal = Journal(folder / "0.jsonl", collect(folder, fingerprint={}))
    for group in groups(data.benchmarks[step.benchmark], size=3):
        for _ in predict(step, model, group, data=data, journal=journal):
            pass
    return sorted(collect(folder, fingerprint={}).values(), key=lambda prediction: prediction.key)


def histories(model: ScriptedModel, *, image_id: str) -> list[tuple[tuple[str, str], ...]]:
    return [request.history for request in model.requests if request.image_id == image_id]


@pytest.fixture
def data(paths: Paths) -> BenchmarkSet:
    return own_benchmarks(paths, make_config())


QUESTIONS = ("What stands on the table?", "Which one is for tea?", "Segment what we spoke of.")


def test_reference_history_is_the_reference_answers(data: BenchmarkSet, tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    answers(Pass(benchmark="dialogues", model="m", history="reference"), data, tmp_path, model)
    first, second = (QUESTIONS[0], "A mug & a lamp <b>stand</b> there."), (QUESTIONS[1], "The mug is for tea.")
    assert histories(model, image_id="p1") == [(), (first,), (first, second)]


def test_own_history_is_what_the_model_said_itself(data: BenchmarkSet, tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    answers(Pass(benchmark="dialogues", model="m", history="own"), data, tmp_path, model)
    first, second = (QUESTIONS[0], f"{QUESTIONS[0]} after 0"), (QUESTIONS[1], f"{QUESTIONS[1]} after 1")
    assert histories(model, image_id="p1") == [(), (first,), (first, second)]


def test_no_history_asks_the_last_question_alone(data: BenchmarkSet, tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    found = answers(Pass(benchmark="dialogues", model="m", history="none"), data, tmp_path, model)
    assert {(request.history, request.question) for request in model.requests} == {((), QUESTIONS[2])}
    assert all(prediction.turn == 2 for prediction in found)


def test_markers_of_own_answers_stay_in_the_history(data: BenchmarkSet, tmp_path: Path) -> None:
    model = ScriptedModel(lambda request: points_at("lamp"))
    answers(Pass(benchmark="dialogues", model="m", history="own"), data, tmp_path, model)
    assert histories(model, image_id="p0")[1] == ((QUESTIONS[0], "It is [OBJ]lamp[SEG]."),)


class InterruptedRunError(Exception):
    """The run was stopped."""


class FailingModel(ScriptedModel):
    """Stops at the third batch of its second group."""

    def respond(self, requests: Sequence[Request]) -> list[Response]:
        if len(self.batch_sizes) == 5:
            raise InterruptedRunError
        return super().respond(requests)


def test_an_interrupted_run_ends_with_the_same_predictions(data: BenchmarkSet, tmp_path: Path) -> None:
    step = Pass(benchmark="dialogues", model="m", history="own")
    whole = ScriptedModel(echo)
    expected = answers(step, data, tmp_path / "whole", whole)
    with pytest.raises(InterruptedRunError):
        answers(step, data, tmp_path / "cut", FailingModel(echo))
    with (tmp_path / "cut" / "0.jsonl").open("a") as lines:
        lines.write('{"benchmark": "dialo')  # the line that was being written
    rest = ScriptedModel(echo)
    assert answers(step, data, tmp_path / "cut", rest) == expected
    assert [request.question for request in rest.requests] == [QUESTIONS[0], QUESTIONS[1], QUESTIONS[2]]
    nobody = ScriptedModel(echo)
    assert answers(step, data, tmp_path / "cut", nobody) == expected
    assert not nobody.requests


def test_a_damaged_journal_is_named(data: BenchmarkSet, tmp_path: Path) -> None:
    step = Pass(benchmark="queries", model="m", history="none")
    answers(step, data, tmp_path, ScriptedModel(echo))
    (tmp_path / "1.jsonl").write_text('{"benchmark": 3}\n')
    with pytest.raises(DataError, match=r"1\.jsonl:1: damaged .* Delete the file"):
        answers(step, data, tmp_path, ScriptedModel(echo))


def test_a_journal_of_other_weights_is_not_taken_up(data: BenchmarkSet, tmp_path: Path) -> None:
    answers(Pass(benchmark="queries", model="m", history="none"), data, tmp_path, ScriptedModel(echo))
    assert collect(tmp_path, fingerprint={})
    assert not collect(tmp_path, fingerprint={"weights": "b"})
    assert not collect(tmp_path, fingerprint={})


def test_several_targets_are_joined_into_one_mask(data: BenchmarkSet) -> None:
    both = next(question for question in data.questions() if question.dialogue_id == "p0-all")
    assert both.targets == ("mug", "lamp")
    assert both.target is not None
    assert data.regions["p0-mug"].mask != both.target


def test_every_picture_comes_once_before_any_comes_twice(data: BenchmarkSet) -> None:
    queries = data.benchmarks["queries"]
    chosen = choose(queries, limit=4, seed=0)
    assert {dialogue.image_id for dialogue in chosen} == {"p0", "p1", "p2", "p3"}
    assert chosen == choose(list(reversed(queries)), limit=4, seed=0)
    assert chosen != choose(queries, limit=4, seed=1)


def test_a_test_split_without_questions_says_what_to_do(paths: Paths) -> None:
    paths.split_dialogues("test").write_text("")
    with pytest.raises(DataError, match=r"no dialogue to score among 0 lines.*split.test_share"):
        own_benchmarks(paths, make_config())


def test_a_dialogue_about_an_unknown_region_is_named(paths: Paths) -> None:
    paths.checked_regions.write_text("")
    with pytest.raises(DataError, match=r"test.jsonl: dialogue p\d-\w+: points at unknown regions p\d-"):
        own_benchmarks(paths, make_config())
