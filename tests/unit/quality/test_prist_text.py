"""The suite of dialogues on the published PRIST test file and on broken ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from miras.quality.config import CheckConfig
from miras.quality.prist_text import TextVerdict, check_prist_text

CHECK = CheckConfig(
    min_turns=3,
    max_turns=7,
    max_words_per_turn=120,
    min_area_canvas_px=304,
    near_duplicate_similarity=0.9,
    max_quarantined_share=0.2,
)


@pytest.fixture(scope="module")
def published(shared_data: Path) -> TextVerdict:
    return check_prist_text(shared_data / "prist" / "test.json", check=CHECK)


def test_the_published_records_pass_but_for_foci_named_twice(published: TextVerdict) -> None:
    dialogues = published.verdict.dialogues
    assert published.rejected == ()
    assert (dialogues.rows, dialogues.quarantined) == (405, 20)
    rules = Counter(rule for reasons in dialogues.reasons.values() for rule in reasons)
    assert rules == {"targets_passed": 20}


def test_a_focus_that_two_records_of_a_picture_share_is_told(published: TextVerdict) -> None:
    regions = published.verdict.regions
    reasons = {regions.ids[row]: list(found.values()) for row, found in regions.reasons.items()}
    assert len(reasons) == 20
    assert reasons["e9a44f8cb35af749-54-focus"] == [
        'its phrase "Dollar Shop sign" also names e9a44f8cb35af749-55-focus of the same picture'
    ]


def test_rules_of_masks_and_pictures_do_not_apply_to_text(published: TextVerdict) -> None:
    assert len(published.verdict.masks) == 0
    checked = {
        result.rule.name: result.rows_checked
        for validation in published.verdict.validations
        for result in validation.results
    }
    assert checked["mask_not_empty"] == 0
    assert checked["prist_turn_count"] == 405


@pytest.mark.parametrize(
    "name",
    [
        "no_seg_token", "seg_in_question", "empty_dialogue", "roles_not_alternating", "ends_with_question",
        "unknown_role", "missing_focus", "null_value", "img_id_traversal",
    ],
)  # fmt: skip
def test_a_broken_record_never_passes(shared_data: Path, name: str) -> None:
    found = check_prist_text(shared_data / "bad_inputs" / "prist" / f"{name}.json", check=CHECK)
    dialogues = found.verdict.dialogues
    assert len(found.rejected) + dialogues.quarantined == 1
    assert dialogues.rows + len(found.rejected) == 3


def test_sound_records_pass(shared_data: Path) -> None:
    found = check_prist_text(shared_data / "bad_inputs" / "prist" / "good.json", check=CHECK)
    assert (found.rejected, found.verdict.dialogues.rows, found.verdict.dialogues.quarantined) == ((), 3, 0)


def test_a_very_long_question_is_read_and_then_quarantined(shared_data: Path) -> None:
    found = check_prist_text(shared_data / "bad_inputs" / "prist" / "very_long_turn.json", check=CHECK)
    assert found.rejected == ()
    (reasons,) = found.verdict.dialogues.reasons.values()
    assert reasons == {"text_length": "its longest text has 24000 words, at most 120 expected"}
