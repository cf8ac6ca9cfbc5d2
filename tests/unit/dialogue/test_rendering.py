"""Markers: written once, read back, never taken from stored text."""

from __future__ import annotations

import pytest

from miras.dialogue.records import Turn
from miras.dialogue.rendering import phrases_in, plain_text, render_answer, split_groups

PHRASES = {"r1": "red mug", "r2": "handle of the blue mug"}


def test_each_slot_becomes_the_group_of_its_target() -> None:
    turn = Turn(question="?", answer="The {target} and the {target}.", targets=("r2", "r1"))
    rendered = render_answer(turn, PHRASES)
    assert rendered == "The [OBJ]handle of the blue mug[SEG] and the [OBJ]red mug[SEG]."
    assert phrases_in(rendered) == ["handle of the blue mug", "red mug"]
    assert split_groups(rendered) == ("The {target} and the {target}.", ("handle of the blue mug", "red mug"))


@pytest.mark.parametrize(
    ("answer", "text", "phrases"),
    [
        ("nothing here", "nothing here", ()),
        ("[SEG] alone", " alone", ()),
        ("[OBJ]never closed", "never closed", ()),
        ("[OBJ]opened [OBJ]twice[SEG]", "opened {target}", ("twice",)),
        ("[OBJ][SEG]", "{target}", ("",)),
        ("a {target} typed [OBJ]x[SEG]", "a  typed {target}", ("x",)),
    ],
)
def test_markers_without_partner_are_dropped(answer: str, text: str, phrases: tuple[str, ...]) -> None:
    assert split_groups(answer) == (text, phrases)


def test_plain_text_keeps_words_and_drops_markers() -> None:
    assert plain_text("<image> Here: [OBJ]red  mug[SEG].") == "Here: red mug."
    assert plain_text("The [OBJ] red mug[SEG] , see [OBJ] it[SEG] .") == "The red mug, see it."
