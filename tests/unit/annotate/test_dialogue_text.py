"""Dialogues as text for people, and what they change in it."""

from __future__ import annotations

import pytest

from miras.annotate.dialogue_text import apply_changes, read_changes, write_text
from miras.dialogue.records import Dialogue, Turn
from miras.errors import DataError
from tests.unit.annotate.workspace import dialogue


def text_of(*dialogues: Dialogue) -> str:
    return write_text(dialogues, phrase="mug", picture="x.png", remarks={})


def hostile() -> Dialogue:
    turns = (
        Turn(question="Q2: is this\n# a remark\r\nA1: or not?", answer="== dialogue 2\n\n    indented\x0b\u2028 \n"),
        Turn(question="", answer=": yes, «{target}» — ok", targets=("r",)),
    )
    return Dialogue(dialogue_id="d\n1", image_id="i", kind="prist", focus="f", turns=turns)


def test_a_text_that_nobody_touched_changes_nothing() -> None:
    dialogues = [dialogue(0), hostile(), dialogue(1)]
    assert read_changes(text_of(*dialogues), dialogues) == ()


def test_windows_line_ends_change_nothing() -> None:
    dialogues = [dialogue(0), hostile()]
    assert read_changes(text_of(*dialogues).replace("\n", "\r\n"), dialogues) == ()


def test_a_correction_is_found_and_applied() -> None:
    before = dialogue(0)
    (change,) = read_changes(text_of(before).replace("8 o'clock", "9 o'clock\nby the\n  window"), [before])
    assert (change.dialogue_id, change.turn, change.field) == ("d0", 0, "answer")
    after = apply_changes(before, [change])
    assert after.turns[0].answer == "A mug, at 9 o'clock\nby the\n  window."
    assert after.turns[1] == before.turns[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Q2: Outline it.\n", "", "Q2 of dialogue 1 is missing"),
        ("Outline it.", "", "Q2 of dialogue 1 is empty"),
        ("Outline it.", "Outline it.\nQ3: more?", "Q3 of dialogue 1 was not handed out"),
        ("Outline it.", "Outline it.\nQ2: twice", "Q2 of dialogue 1 is there twice"),
        ("{target}", "the mug", "0 times {target}, handed out were 1"),
        ("{target}", "{target} and [SEG]", "holds \\[SEG\\]"),
        ("== dialogue 1\n", "== dialogue 7\n", "of dialogue 7 was not handed out"),
        ("== dialogue 1\n", "\ndear reader\n== dialogue 1\n", "'dear reader' belongs to no question"),
    ],
)
def test_a_broken_text_is_refused_with_the_place(old: str, new: str, message: str) -> None:
    text = text_of(dialogue(0))
    assert old in text
    with pytest.raises(DataError, match=message):
        read_changes(text.replace(old, new), [dialogue(0)])
