"""What the judge is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miras.evaluate.judge import prompts
from miras.evaluate.judge.prompts import ScoredDialogue, check_scores, compare_prompt, prompt_version, score_prompt
from miras.evaluate.judge.records import DIMENSIONS, JudgedDialogue, TurnText
from miras.llm.mending import Faulty, read_answer
from miras.llm.wire import make_request
from tests.unit.evaluate.judge.evaluation import model_config

DIALOGUE = JudgedDialogue(
    dialogue_id="d",
    image_id="p",
    file_name="",
    focus="red mug",
    turns={
        "model": (TurnText("What is there?", "A lamp."), TurnText("Segment it.", "")),
        "reference": (TurnText("What is there?", "A mug."), TurnText("Segment it.", "It is the red mug.")),
    },
    silent_turns=1,
)
GOOD: dict[str, Any] = {"remarks": "Fine.", **dict.fromkeys(DIMENSIONS, 4)}


def test_the_judge_sees_goal_and_turns_and_not_whose_they_are() -> None:
    prompt = score_prompt(DIALOGUE, "model", reading=0, picture=None)
    assert "the goal: red mug" in prompt.text
    assert "Q1: What is there?\nA1: A lamp.\nQ2: Segment it.\nA2: (no answer)\n" in prompt.text
    for word in ("model", "reference", "human", "stage"):
        assert word not in f"{prompt.system} {prompt.text}".lower()


def test_both_orders_show_the_same_dialogues_in_turn() -> None:
    one, other = (compare_prompt(DIALOGUE, order, picture=None).text for order in ("model first", "reference first"))
    assert one.index("A lamp.") < one.index("A mug.")
    assert other.index("A mug.") < other.index("A lamp.")
    assert sorted(one.splitlines()) == sorted(other.splitlines())


def test_readings_are_asked_in_the_same_words_and_have_keys_of_their_own() -> None:
    asked = [score_prompt(DIALOGUE, "model", reading=reading, picture=None) for reading in range(5)]
    assert len({(prompt.system, prompt.text) for prompt in asked}) == 1
    for seed in (7, None):
        model = model_config(seed=seed)
        keys = {make_request(prompt, model, max_answer_tokens=300).key for prompt in asked}
        assert len(keys) == 5


def test_without_picture_or_focus_nothing_speaks_of_them(tmp_path: Path) -> None:
    nameless = JudgedDialogue("d", "", "", "", DIALOGUE.turns, 1)
    for prompt in (
        score_prompt(nameless, "model", reading=0, picture=None),
        compare_prompt(nameless, "model first", picture=None),
    ):
        assert "picture" not in f"{prompt.system} {prompt.text}"
        assert "take what its last question asks for as the goal" in prompt.text
    assert "Look at the picture" in score_prompt(DIALOGUE, "model", reading=0, picture=tmp_path / "p.png").text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"progression": 5.1}, "progression is 5.1; expected a number from 0 to 5"),
        ({"target_relevance": -1}, "target_relevance is -1.0"),
        ({"progression": "4"}, "progression: "),
        ({"progression": True}, "progression: "),
        ({"progression": None}, "progression: "),
        ({"total": 16}, "total: "),
    ],
)
def test_answers_that_are_no_scores_are_told_what_is_wrong(change: dict[str, Any], told: str) -> None:
    prompt = score_prompt(DIALOGUE, "model", reading=0, picture=None)
    assert isinstance(read_answer(prompt, json.dumps(GOOD)), ScoredDialogue)
    found = read_answer(prompt, json.dumps(GOOD | change))
    assert isinstance(found, Faulty)
    assert told in found.message


def test_not_a_number_is_no_score() -> None:
    with pytest.raises(ValueError, match="progression is nan"):
        check_scores(ScoredDialogue(**(GOOD | {"progression": float("nan")})))


def test_the_version_follows_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_version()
    assert before == prompt_version()
    assert len(before) == 12
    schema = prompts.answer_schema
    monkeypatch.setattr(prompts, "answer_schema", lambda answer: schema(answer) | {"title": "Another"})
    assert prompt_version() != before
