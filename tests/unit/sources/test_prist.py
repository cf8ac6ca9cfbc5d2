"""The PRIST reader."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from miras.dialogue.records import Rejected
from miras.errors import DataError
from miras.sources.prist import PristRecord, read_prist


def record(**changes: Any) -> dict[str, Any]:
    dialogue = [
        {"from": "human", "value": "What hangs on the wall?"},
        {"from": "gpt", "value": "A clock. "},
        {"from": "human", "value": "Segment it."},
        {"from": "gpt", "value": "Sure, [SEG]."},
    ]
    return {"img_id": "00ff.jpg", "dialogue": dialogue, "focus": "wall clock"} | changes


def read(folder: Path, value: object) -> list[PristRecord | Rejected]:
    path = folder / "prist.json"
    path.write_text(json.dumps(value))
    return list(read_prist(path))


def test_a_record_becomes_a_dialogue_whose_last_turn_has_the_focus_as_target(tmp_path: Path) -> None:
    _, item = read(tmp_path, [record(), record()])
    assert isinstance(item, PristRecord)
    dialogue, region = item.dialogue, item.region
    assert (dialogue.dialogue_id, dialogue.image_id, dialogue.kind) == ("00ff-1", "00ff", "prist")
    assert (region.phrase, region.mask, dialogue.focus) == ("wall clock", None, "wall clock")
    assert [turn.targets for turn in dialogue.turns] == [(), (region.region_id,)]
    assert [turn.answer for turn in dialogue.turns] == ["A clock.", "Sure, {target}."]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"focus": " "}, "focus"),
        ({"focus": "a [SEG]"}, "[SEG]"),
        ({"img_id": "a/b.jpg"}, "plain file name"),
        ({"img_id": "..\\b.jpg"}, "plain file name"),
        ({"img_id": 3}, "img_id"),
        ({"dialogue": None}, "dialogue"),
        ({"dialogue": ["text"]}, "expected an object"),
        ({"dialogue": record()["dialogue"][1:]}, "expected human"),
    ],
)
def test_a_wrong_record_is_rejected_and_the_next_one_read(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    wrong, sound = read(tmp_path, [record(**changes), record()])
    assert isinstance(wrong, Rejected)
    assert reason in wrong.reason
    assert "record 0" in wrong.where
    assert isinstance(sound, PristRecord)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("marker", ["[OBJ]", "<image>", "{target}"])
def test_markers_of_ours_in_the_text_are_refused(tmp_path: Path, number: int, marker: str) -> None:
    value = record()
    value["dialogue"][number]["value"] += marker
    (item,) = read(tmp_path, [value])
    assert isinstance(item, Rejected)
    assert marker in item.reason


@pytest.mark.parametrize("number", range(4))
def test_a_second_seg_anywhere_is_refused(tmp_path: Path, number: int) -> None:
    value = record()
    value["dialogue"][number]["value"] += "[SEG]"
    (item,) = read(tmp_path, [value])
    assert isinstance(item, Rejected)
    assert "[SEG]" in item.reason


def test_a_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a list"):
        read(tmp_path, record())


def test_the_public_test_file_has_its_published_counts(shared_data: Path) -> None:
    items = list(read_prist(shared_data / "prist" / "test.json"))
    records = [item for item in items if isinstance(item, PristRecord)]
    assert (len(items), len(records)) == (405, 405)
    assert len({item.dialogue.dialogue_id for item in records}) == 405
    assert len({item.dialogue.image_id for item in records}) == 135
    assert Counter(2 * len(item.dialogue.turns) for item in records) == {8: 344, 6: 58, 10: 3}
