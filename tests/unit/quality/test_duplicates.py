"""Who repeats whom."""

from __future__ import annotations

import pytest

from miras.dialogue.records import Dialogue, Turn
from miras.quality.duplicates import dialogue_key, repeated_dialogues, text_key

LONG = "the red mug stands on the table near the window and one can hold it by its round handle at the left side"


def dialogue(text: str, *, image_id: str = "a", targets: tuple[str, ...] = ()) -> Dialogue:
    turn = Turn(question=text, answer="{target}" * len(targets), targets=targets)
    return Dialogue(dialogue_id=text[:8], image_id=image_id, kind="vqa", focus="", turns=(turn,))


def repeats(*dialogues: Dialogue, similarity: float = 0.9) -> dict[int, int]:
    keys = [dialogue_key(item, {}) for item in dialogues]
    return repeated_dialogues(dialogues, keys, similarity=similarity)


def test_case_blanks_and_punctuation_do_not_make_a_new_text() -> None:
    assert text_key("  Where is it? \n HERE!") == text_key("where, is it -- here") == "where is it here"


def test_the_first_of_several_equal_dialogues_stays() -> None:
    assert repeats(dialogue("Why?"), dialogue("why"), dialogue("Who?"), dialogue("WHY")) == {1: 0, 3: 0}


def test_equal_texts_about_two_pictures_do_not_repeat_each_other() -> None:
    assert repeats(dialogue("Why?"), dialogue("Why?", image_id="b")) == {}


@pytest.mark.parametrize(("similarity", "expected"), [(0.8, {1: 0}), (0.95, {}), (1.0, {})])
def test_one_changed_last_word_is_nearly_the_same(similarity: float, expected: dict[int, int]) -> None:
    changed = LONG.replace("side", "edge")
    assert repeats(dialogue(LONG), dialogue(changed), similarity=similarity) == expected


def test_equal_texts_are_found_without_any_tolerance() -> None:
    assert repeats(dialogue(LONG), dialogue(LONG.upper()), similarity=1.0) == {1: 0}


def test_nearly_the_same_text_about_another_target_is_no_repetition() -> None:
    one, other = dialogue(LONG, targets=("r1",)), dialogue(LONG, targets=("r2",))
    assert repeats(one, other, similarity=0.5) == {}


def test_phrases_are_part_of_the_text() -> None:
    asked = dialogue("Where?", targets=("r1",))
    assert dialogue_key(asked, {"r1": "Red mug"}) == "where red mug"
    assert dialogue_key(asked, {}) == "where r1"


def test_dialogues_without_picture_repeat_each_other_only_word_by_word() -> None:
    changed = LONG.replace("side", "edge")
    talks = [dialogue(text, image_id="") for text in (LONG, changed, LONG.upper())]
    assert repeats(*talks, similarity=0.5) == {2: 0}


def test_many_dialogues_without_picture_are_not_compared_each_with_each() -> None:
    talks = [dialogue(f"{number} {LONG}", image_id="") for number in range(20_000)]  # 200 million pairs
    assert repeats(*talks) == {}
