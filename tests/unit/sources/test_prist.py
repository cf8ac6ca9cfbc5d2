"""The PRIST reader."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from miras.dialogue import masks
from miras.dialogue.records import Rejected
from miras.errors import DataError
from miras.sources import prist
from miras.sources.annotations import RejectedPicture
from miras.sources.prist import PristRecord, PristSource, read_prist, read_records, write
from miras.sources.prist_masks import ambiguities, read_manifest, write_manifest
from miras.sources.prist_statistics import Faults, Markers, Spread, statistics
from tests.unit.sources.told_files import (
    HEIGHT,
    LEFT,
    LIMITS,
    RIGHT,
    WIDTH,
    save_json,
    save_picture,
    shape,
    sorted_out,
)


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


def prist_source(folder: Path, records: object, *labels: tuple[str, list[int]], manifest: object = None) -> PristSource:
    save_picture(folder / "pictures" / "00ff.jpg")
    shapes = [shape(label, polygon) for label, polygon in labels]
    save_json(folder / "masks" / "00ff.json", {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH})
    return PristSource(
        reader="prist",
        records=str(save_json(folder / "prist.json", records)),
        pictures=str(folder / "pictures"),
        masks=str(folder / "masks"),
        manifest=str(save_json(folder / "manifest.json", manifest)) if manifest is not None else "",
    )


def test_the_public_file_comes_out_of_import_and_export_byte_for_byte(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "prist" / "test.json"
    items = [item for item in read_prist(path) if isinstance(item, PristRecord)]
    refused = write(
        [item.dialogue for item in items],
        {item.region.region_id: item.region for item in items},
        {},
        tmp_path / "out.json",
        originals={item.original.dialogue_id: item.original for item in items},
    )
    assert refused == []
    assert (tmp_path / "out.json").read_bytes() == path.read_bytes()


def test_a_changed_text_is_written_and_the_others_keep_their_blanks(tmp_path: Path) -> None:
    (item,) = read(tmp_path, [record()])
    assert isinstance(item, PristRecord)
    first, last = item.dialogue.turns
    changed = item.dialogue.model_copy(update={"turns": (first.model_copy(update={"question": "What?"}), last)})
    write([changed], {}, {}, tmp_path / "out.json", originals={changed.dialogue_id: item.original})
    (written,) = json.loads((tmp_path / "out.json").read_text())
    assert [message["value"] for message in written["dialogue"]] == [
        "What?",
        "A clock. ",
        "Segment it.",
        "Sure, [SEG].",
    ]


def test_dialogues_that_prist_has_no_form_for_are_refused(tmp_path: Path) -> None:
    (item,) = read(tmp_path, [record()])
    assert isinstance(item, PristRecord)
    wrong = [
        item.dialogue.model_copy(update={"kind": "vqa"}),
        item.dialogue.model_copy(update={"turns": item.dialogue.turns[:1]}),
        item.dialogue,  # neither original nor picture
    ]
    assert len(write(wrong, {}, {}, tmp_path / "out.json")) == 3
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_counts_of_the_public_file(shared_data: Path) -> None:
    counts = statistics(read_records(shared_data / "prist" / "test.json"))
    assert (counts.dialogues, counts.images, counts.runs_of_an_image, counts.open_images_names) == (405, 135, 135, 405)
    assert counts.messages_per_dialogue == {6: 58, 8: 344, 10: 3}
    assert (counts.pairs, counts.reasoning_pairs, counts.distinct_reasoning_questions) == (1565, 1160, 1160)
    assert (counts.distinct_last_questions, counts.distinct_last_answers) == (11, 15)
    assert counts.last_questions_with_segment + counts.last_questions_with_divide == 405
    assert counts.faults == Faults(0, 0, 0, 0, 0)
    assert counts.markers == Markers(last_answers_with_one_seg=405, seg_elsewhere=0, obj=0, image=0)
    assert (len(counts.same_focus_pairs), len(counts.substring_foci)) == (10, 7)
    assert (counts.outer_blanks, counts.reasoning_questions_without_mark, counts.mojibake) == ((179,), (148,), 0)
    assert (counts.texts.words_per_dialogue.least, counts.texts.words_per_dialogue.most) == (45, 118)
    assert counts.texts.characters_per_dialogue.most == 745
    assert (counts.texts.tokens_per_dialogue.least, counts.texts.tokens_per_dialogue.most) == (54, 140)


def test_faults_are_counted_and_left_out() -> None:
    odd = record(dialogue=record()["dialogue"][:3])
    turned = record(dialogue=record()["dialogue"][::-1])
    empty = record(focus=" ")
    counts = statistics([record(), odd, turned, empty, "text", {"img_id": 3}])
    assert counts.dialogues == 1
    assert counts.faults == Faults(not_a_record=2, wrong_alternation=1, odd_length=1, empty_value=0, empty_focus=1)
    assert statistics([]).texts.words_per_dialogue == Spread(0.0, 0.0, 0, 0)


def test_the_manifest_that_comes_with_miras_is_that_of_the_public_file(shared_data: Path) -> None:
    found = list(ambiguities(read_records(shared_data / "prist" / "test.json")))
    shipped = read_manifest(None)
    assert shipped == {(item.img_id, item.focus): item for item in found}
    assert Counter(item.case for item in found) == {"duplicate": 20, "substring": 7}


def test_masks_are_found_by_label_and_pieces_of_one_label_are_joined(tmp_path: Path) -> None:
    made = prist_source(tmp_path, [record()], ("Wall  Clock", LEFT), ("wall clock", RIGHT), ("wall clock face", LEFT))
    (picture,), rejected = sorted_out(prist.read(made, limits=LIMITS))
    (region,), (dialogue,) = picture.regions, picture.dialogues
    assert rejected == []
    assert masks.area_px(region.mask) == 200
    assert (region.region_id, region.phrase, dialogue.turns[-1].targets) == ("00ff-r0", "wall clock", ("00ff-r0",))
    assert (
        write([dialogue], {}, {}, tmp_path / "out.json", originals={dialogue.dialogue_id: picture.originals[0]}) == []
    )
    assert json.loads((tmp_path / "out.json").read_text()) == [record()]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([("old wall clock", LEFT)], None),
        ([("old wall clock", LEFT), ("new wall clock", RIGHT)], "several labels contain it"),
        ([("door", LEFT)], "labels in 00ff.json: 'door'"),
        ([], "none"),
        ([("wall clock", [2, 3, 4, 5])], "points"),
    ],
)
def test_a_focus_without_a_label_of_its_own_needs_exactly_one_that_contains_it(
    tmp_path: Path, labels: list[tuple[str, list[int]]], reason: str | None
) -> None:
    (picture,), rejected = sorted_out(prist.read(prist_source(tmp_path, [record()], *labels), limits=LIMITS))
    assert len(picture.dialogues) + len(rejected) == 1
    if reason is not None:
        assert reason in rejected[0].reason


def test_an_ambiguous_focus_is_settled_by_the_manifest_or_not_at_all(tmp_path: Path) -> None:
    records = [record(), record(), record(focus="wall clock face")]
    labels = (("the wall clock", LEFT), ("wall clock face", RIGHT))
    (picture,), rejected = sorted_out(prist.read(prist_source(tmp_path, records, *labels, manifest=[]), limits=LIMITS))
    assert [dialogue.focus for dialogue in picture.dialogues] == ["wall clock face"]
    assert all("manifest" in item.reason for item in rejected)
    write_manifest(records, tmp_path / "own.json")
    settled = json.loads((tmp_path / "own.json").read_text())
    for item in settled:
        item["label"] = "the wall clock"
    (picture,), rejected = sorted_out(
        prist.read(prist_source(tmp_path, records, *labels, manifest=settled), limits=LIMITS)
    )
    assert rejected == []
    assert [dialogue.turns[-1].targets for dialogue in picture.dialogues] == [("00ff-r0",), ("00ff-r0",), ("00ff-r1",)]


def test_a_picture_without_file_or_masks_is_rejected_with_its_dialogues(tmp_path: Path) -> None:
    records = [record(img_id="gone.jpg"), record(img_id="bare.jpg"), record(img_id="bare.jpg"), record()]
    made = prist_source(tmp_path, records, ("wall clock", LEFT))
    save_picture(tmp_path / "pictures" / "bare.jpg", shade=9)
    (picture,), rejected = sorted_out(prist.read(made, limits=LIMITS))
    assert [type(item) for item in rejected] == [RejectedPicture, RejectedPicture]
    assert "2 dialogues" in rejected[1].reason
    assert picture.image_id == "00ff"


def test_a_mask_file_in_cp1252_is_read(tmp_path: Path) -> None:
    made = prist_source(tmp_path, [record(focus="café ‘sign’")], ("x", LEFT))
    text = json.dumps({"shapes": [shape("Café 'sign'")]}, ensure_ascii=False)
    (tmp_path / "masks" / "00ff.json").write_bytes(text.encode("cp1252"))
    (picture,), rejected = sorted_out(prist.read(made, limits=LIMITS))
    assert rejected == []
    assert picture.regions[0].phrase == "café ‘sign’"
