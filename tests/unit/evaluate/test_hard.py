"""The benchmark "hard": the person points at one thing and asks for another, which takes a memory of masks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from miras.dialogue.records import Dialogue, DialogueKind, Turn
from miras.evaluate.asking import passes
from miras.evaluate.benchmarks import BenchmarkSet, own_benchmarks
from miras.evaluate.config import ReportConfig
from miras.evaluate.predict import Journal, Pass, predict
from miras.evaluate.records import History
from miras.evaluate.report import run
from miras.evaluate.tables import find_row
from miras.files import read_records, write_records
from miras.model.records import Request, Response
from miras.paths import Paths

from .conftest import BOXES, ScriptedModel, box_mask, evaluate, make_config, points_at, says, scripted_models

OTHER = "Segment the other one."
SAME = "Segment this one."
LABEL = "points at a mask and asks for the other of two"


def pointing(name: str, *turns: Turn, kind: DialogueKind = "mrseg", image_id: str = "p0") -> Dialogue:
    return Dialogue(dialogue_id=f"{image_id}-{name}", image_id=image_id, kind=kind, focus="", turns=turns)


def asks(question: str, *, shown: tuple[str, ...] = (), wanted: str = "lamp", image_id: str = "p0") -> Turn:
    """Points at some of `BOXES` and asks for one."""
    shown_ids = tuple(f"{image_id}-{name}" for name in shown)
    return Turn(question=question, answer="{target}", targets=(f"{image_id}-{wanted}",), points_at=shown_ids)


def both_ways(image_id: str) -> list[Dialogue]:
    """The other one of mug and lamp, in the same words."""
    return [
        pointing(
            f"hard-other-{shown}", asks(OTHER, shown=(shown,), wanted=wanted, image_id=image_id), image_id=image_id
        )
        for shown, wanted in (("mug", "lamp"), ("lamp", "mug"))
    ]


def add_to_test_split(paths: Paths, *dialogues: Dialogue) -> None:
    file = paths.split_dialogues("test")
    write_records(file, [*read_records(file, Dialogue), *dialogues])


def asked(data: BenchmarkSet, step: Pass, folder: Path, answer: dict[str, Response]) -> list[Request]:
    """The requests of a pass to a model that answers question -> response."""
    model = ScriptedModel(lambda request: answer[request.question])
    for _ in predict(step, model, data.benchmarks[step.benchmark], data=data, journal=Journal(folder / "journal", {})):
        pass
    return model.requests


def names(references: tuple[tuple[np.ndarray, ...], ...]) -> list[list[str]]:
    """Which of `BOXES` each question speaks of."""
    return [[name for mask in masks for name in BOXES if np.array_equal(mask, box_mask(name))] for masks in references]


def remembers(request: Request) -> Response:
    """Finds what is not pointed at, as only a model that sees the given mask can; else the mug."""
    shown = names(request.references)[-1]
    return points_at("lamp" if shown == ["mug"] else "mug")


# --- what is in it


def test_it_asks_for_another_thing_than_the_one_pointed_at(paths: Paths) -> None:
    add_to_test_split(
        paths,
        pointing("other", asks(OTHER, shown=("mug",))),
        pointing("same", asks(SAME, shown=("lamp",))),
        pointing("one of both", asks(SAME, shown=("mug", "lamp"))),
        pointing("two turns", asks(OTHER, shown=("mug",)), asks(SAME, shown=("mug",))),
        pointing("no mask given", asks("Segment the lamp.")),
        pointing("other kind", asks(OTHER, shown=("mug",)), kind="referring"),
    )
    chosen = own_benchmarks(paths, make_config()).benchmarks
    assert [dialogue.dialogue_id for dialogue in chosen["hard"]] == ["p0-other"]
    assert "p0-other" not in {dialogue.dialogue_id for dialogue in (*chosen["dialogues"], *chosen["queries"])}


def test_it_is_as_large_as_the_queries_may_be_and_spread_over_the_pictures(paths: Paths) -> None:
    add_to_test_split(paths, *(dialogue for number in range(4) for dialogue in both_ways(f"p{number}")))
    chosen = own_benchmarks(paths, make_config(max_queries=4)).benchmarks["hard"]
    assert {dialogue.image_id for dialogue in chosen} == {"p0", "p1", "p2", "p3"}
    assert own_benchmarks(paths, make_config(max_queries=0)).benchmarks["hard"] == ()


# --- what the model is given


@pytest.mark.parametrize("history", ["reference", "own", "none"])
def test_the_mask_pointed_at_is_the_true_one(paths: Paths, tmp_path: Path, history: History) -> None:
    add_to_test_split(paths, *both_ways("p0"))
    data = own_benchmarks(paths, make_config())
    requests = asked(data, Pass(benchmark="hard", model="m", history=history), tmp_path, {OTHER: points_at("handle")})
    assert [request.history for request in requests] == [(), ()]
    assert sorted(names(request.references) for request in requests) == [[["lamp"]], [["mug"]]]


TALK = (
    Turn(question="Segment the mug.", answer="{target}", targets=("p0-mug",)),
    Turn(question="And beside it?", answer="{target}", targets=("p0-lamp",), refers_to=(0,)),
    Turn(question="Between them?", answer="None.", refers_to=(0, 1), points_at=("p0-lamp",)),
)
WRONG = {"Segment the mug.": points_at("handle"), "And beside it?": points_at("mug"), "Between them?": says("None.")}


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ("own", [[[]], [[], ["handle"]], [[], ["handle"], ["handle", "mug", "lamp"]]]),
        ("reference", [[[]], [[], ["mug"]], [[], ["mug"], ["mug", "lamp"]]]),
        ("none", [[["mug", "lamp"]]]),
    ],
)
def test_earlier_masks_are_the_models_own_in_its_own_history_and_true_ones_else(
    paths: Paths, tmp_path: Path, history: History, expected: list[list[list[str]]]
) -> None:
    data = replace(own_benchmarks(paths, make_config()), benchmarks={"dialogues": (pointing("talk", *TALK),)})
    requests = asked(data, Pass(benchmark="dialogues", model="m", history=history), tmp_path, WRONG)
    assert [names(request.references) for request in requests] == expected


def test_an_own_answer_without_a_mask_leaves_nothing_to_refer_to(paths: Paths, tmp_path: Path) -> None:
    data = replace(own_benchmarks(paths, make_config()), benchmarks={"dialogues": (pointing("talk", *TALK[:2]),)})
    answers = WRONG | {"Segment the mug.": says("There is no mug.")}
    requests = asked(data, Pass(benchmark="dialogues", model="m", history="own"), tmp_path, answers)
    assert [names(request.references) for request in requests] == [[[]], [[], []]]


# --- what comes out


def test_only_stage_2_is_asked_once_and_each_way_counts(paths: Paths) -> None:
    add_to_test_split(paths, *both_ways("p0"), *both_ways("p1"))
    models = scripted_models() | {"stage2": ScriptedModel(remembers)}
    asked_of = passes(own_benchmarks(paths, make_config()), models, make_config())
    assert [step for step in asked_of if step.benchmark == "hard"] == [
        Pass(benchmark="hard", model="stage2", history="none")
    ]
    evaluate(paths, models)
    times_asked = {name: sum(each.question == OTHER for each in model.requests) for name, model in models.items()}
    assert times_asked == {"stage1": 0, "stage2": 4, "no-picture": 0}
    assert json.loads(paths.scores.read_text())["hard_precision_at_50"] == 100.0


def test_a_model_that_does_not_see_the_given_mask_finds_half(paths: Paths) -> None:
    add_to_test_split(paths, *both_ways("p0"), *both_ways("p1"))
    evaluate(paths, scripted_models())
    scores = json.loads(paths.scores.read_text())
    assert scores["hard_precision_at_50"] == 50.0
    row = find_row(scores["tables"]["masks"], benchmark="hard", model="stage2")
    assert row is not None
    assert (row["samples"], row["precision_at_50"]) == (4, 50.0)
    assert find_row(scores["tables"]["masks"], benchmark="hard", model="stage1") is None
    run(paths=paths, work=Path("work"), report=ReportConfig(title="Report", num_examples=1, num_failures=0, seed=0))
    assert LABEL in paths.report_page.read_text(encoding="utf-8")


def test_without_such_questions_there_is_neither_a_score_nor_a_row(evaluated: Paths) -> None:
    scores = json.loads(evaluated.scores.read_text())
    assert "hard_precision_at_50" not in scores
    assert find_row(scores["tables"]["masks"], benchmark="hard") is None
