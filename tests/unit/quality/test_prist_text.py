"""The suite of dialogues on the published PRIST test file and on broken ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from miras.dialogue.records import Rejected
from miras.quality.judge import Verdict, judge
from miras.quality.word_list import read_word_list
from miras.sources.prist import read_prist
from tests.unit.quality.good_records import CHECK as GOOD_RECORDS_CHECK
from tests.unit.quality.good_records import NO_WORDS

CHECK = GOOD_RECORDS_CHECK.model_copy(update={"max_words_per_turn": 120, "min_turns_linked": 0.75})


@dataclass(frozen=True)
class TextVerdict:
    """What the reader refused and what the suites found in the rest."""

    rejected: tuple[Rejected, ...]
    verdict: Verdict


def check_prist_text(path: Path) -> TextVerdict:
    """The suites on published PRIST text, whose pictures and masks nobody has: the rules of texts apply alone."""
    read = list(read_prist(path))
    records = [record for record in read if not isinstance(record, Rejected)]
    verdict = judge(
        [record.dialogue for record in records],
        [record.region for record in records],
        pictures=None,
        check=CHECK,
        words=read_word_list(str(NO_WORDS), emails=True, phones=True),
    )
    return TextVerdict(tuple(record for record in read if isinstance(record, Rejected)), verdict)


@pytest.fixture(scope="module")
def published(shared_data: Path) -> TextVerdict:
    return check_prist_text(shared_data / "prist" / "test.json")


def test_at_least_95_in_100_published_records_pass_the_rules_of_progress(published: TextVerdict) -> None:
    dialogues = published.verdict.dialogues
    assert published.rejected == ()
    assert (dialogues.rows, dialogues.quarantined) == (405, 36)
    rules = Counter(rule for reasons in dialogues.reasons.values() for rule in reasons)
    assert rules == {
        "targets_passed": 21,
        "text_without_unwanted_words": 4,
        "prist_focus_named": 3,
        "prist_turns_build_on_earlier": 10,
    }
    assert (rules["prist_focus_named"] + rules["prist_turns_build_on_earlier"]) / 405 < 0.05


def test_contacts_read_off_posters_and_vans_in_the_published_records_are_found(published: TextVerdict) -> None:
    found = {
        dialogues.ids[row]: reasons["text_without_unwanted_words"]
        for dialogues in (published.verdict.dialogues,)
        for row, reasons in dialogues.reasons.items()
        if "text_without_unwanted_words" in reasons
    }
    assert found == {
        "dccb8c057e463672-50": "its texts hold: caroline.edwards@openlibhums.org",
        "12f5785319928bf1-227": "its texts hold: 0207 723 0016; 079 5697 1869",
        "41d1dd7689fad318-122": "its texts hold: 773.509.0001",
        "72c784e59e8c6bd4-244": "its texts hold: 0208 520 235",
    }


def test_a_focus_that_two_records_of_a_picture_share_is_told(published: TextVerdict) -> None:
    regions = published.verdict.regions
    reasons = {regions.ids[row]: list(found.values()) for row, found in regions.reasons.items()}
    assert len(reasons) == 21  # and the address
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
    found = check_prist_text(shared_data / "bad_inputs" / "prist" / f"{name}.json")
    dialogues = found.verdict.dialogues
    assert len(found.rejected) + dialogues.quarantined == 1
    assert dialogues.rows + len(found.rejected) == 3


def test_sound_records_pass(shared_data: Path) -> None:
    found = check_prist_text(shared_data / "bad_inputs" / "prist" / "good.json")
    assert (found.rejected, found.verdict.dialogues.rows, found.verdict.dialogues.quarantined) == ((), 3, 0)


def test_a_very_long_question_is_read_and_then_quarantined(shared_data: Path) -> None:
    found = check_prist_text(shared_data / "bad_inputs" / "prist" / "very_long_turn.json")
    assert found.rejected == ()
    (reasons,) = found.verdict.dialogues.reasons.values()
    assert reasons == {"text_length": "its longest text has 24000 words, at most 120 expected"}
