"""What is read out of a model's text, and what is never taken for an answer."""

from __future__ import annotations

import pytest

from miras.llm.mending import Faulty, read_answer
from tests.unit.llm.asked import GOOD, Colour, prompt

RED = Colour(name="red", share=0.25)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here it is:\n```\n{GOOD}\n```\nIs that fine?",
        f"Sure! {GOOD} Anything else?",
        f'<think>maybe {{"name": "blue"}}</think>\n{GOOD}',
        f"\ufeff  {GOOD}\n",
    ],
)
def test_an_answer_in_wrapping_is_unwrapped(text: str) -> None:
    assert read_answer(prompt(), text) == RED


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed"),
        ("no json at all", "malformed"),
        (GOOD[: len(GOOD) // 2], "malformed"),
        ('{"list": [{"name": "red"}, {"na', "malformed"),  # the whole object inside is not the answer
        (f"{GOOD} or rather {GOOD}", "malformed"),
        (f"```\n{GOOD}\n```\n```\n{GOOD}\n```", "malformed"),
        ('{"name": 3}', "off_schema"),
        ('Here: {"colour": "red"}', "off_schema"),
        ("[1]", "off_schema"),
        ("{" * 3000, "malformed"),
        ('{"name": "\\ud800"}', "malformed"),
    ],
)
def test_what_is_no_answer_is_named(text: str, reason: str) -> None:
    found = read_answer(prompt(), text)
    assert isinstance(found, Faulty)
    assert found.reason == reason
    assert found.message


def test_every_problem_is_told_to_the_model() -> None:
    found = read_answer(prompt(), '{"share": "half", "colour": 1}')
    assert isinstance(found, Faulty)
    assert "name: Field required" in found.message
    assert "share: " in found.message
    assert "colour: Extra inputs are not permitted" in found.message


def test_an_answer_refused_by_its_check_is_wrong_in_the_words_of_the_check() -> None:
    def check(colour: Colour) -> None:
        raise ValueError(f"{colour.name} is not in the picture.")

    assert read_answer(prompt(check=check), GOOD) == Faulty("wrong", "red is not in the picture.")
