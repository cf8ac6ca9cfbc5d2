"""The reader of referring expressions on files in the true form made here."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest

from miras.dialogue import masks
from miras.dialogue.records import Region
from miras.errors import DataError
from miras.sources.annotations import RejectedPicture, RejectedRegion
from miras.sources.refer import ReferSource, build_index, read
from miras.sources.told import RejectedDialogue
from tests.unit.sources.told_files import LIMITS, RIGHT, annotation, coco, save_json, save_picture, sorted_out


def ref(ann_id: Any = 7, *sentences: str, image_id: int = 1, split: str = "train") -> dict[str, Any]:
    said = [{"sent_id": n, "sent": text, "raw": text, "tokens": text.split()} for n, text in enumerate(sentences)]
    return {"ref_id": 1, "ann_id": ann_id, "image_id": image_id, "category_id": 1, "split": split, "sentences": said}


def source(folder: Path, refs: object, instances: object, *, as_json: bool = False) -> ReferSource:
    save_picture(folder / "train2014" / "1.png")
    path = folder / ("grefs(unc).json" if as_json else "refs(unc).p")
    if as_json:
        save_json(path, refs)
    else:
        path.write_bytes(refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol=2))
    return ReferSource(
        reader="refer",
        refs=str(path),
        instances=str(save_json(folder / "instances.json", instances)),
        pictures=str(folder / "train2014"),
        splits=["train"],
    )


def test_every_sentence_is_a_dialogue_about_its_region(tmp_path: Path) -> None:
    refs = [ref(7, "the left mug", "mug near the wall"), ref(8, "mug near the wall"), ref(7, "no", split="val")]
    (picture,), rejected = sorted_out(
        read(source(tmp_path, refs, coco(annotation(7), annotation(8, polygon=RIGHT))), limits=LIMITS)
    )
    assert rejected == []
    assert [dialogue.kind for dialogue in picture.dialogues] == ["referring"] * 3
    assert [dialogue.turns[0].targets for dialogue in picture.dialogues] == [("1-r0",), ("1-r0",), ("1-r1",)]
    assert next(dialogue.turns[0].names for dialogue in picture.dialogues) == ("left mug",)
    assert "left mug" in picture.dialogues[0].turns[0].question
    assert all(dialogue.turns[0].answer.count("{target}") == 1 for dialogue in picture.dialogues)
    # "mug near the wall" is said of both, so it is the phrase of neither.
    assert [region.phrase for region in picture.regions] == ["left mug", ""]
    assert picture.licence == "https://creativecommons.org/licenses/by/2.0/"


def test_pieces_that_overlap_and_stand_out_of_the_picture_are_one_clipped_mask(tmp_path: Path) -> None:
    pieces = [[2, 3, 12, 3, 12, 13, 2, 13], [7, 3, 17, 3, 17, 13, 7, 13], [26, 16, 40, 16, 40, 30, 26, 30]]
    instances = coco(annotation(7, segmentation=pieces))
    (picture,), _ = sorted_out(read(source(tmp_path, [ref(7, "mug")], instances), limits=LIMITS))
    assert masks.area_px(picture.regions[0].mask) == 15 * 10 + 4 * 4


def test_run_length_codes_of_several_pieces_are_joined(tmp_path: Path) -> None:
    codes = [{"size": [20, 30], "counts": [5, 10, 585]}, {"size": [20, 30], "counts": [10, 10, 580]}]
    instances = coco(annotation(7, segmentation=codes))
    (picture,), _ = sorted_out(read(source(tmp_path, [ref(7, "mug")], instances), limits=LIMITS))
    assert masks.area_px(picture.regions[0].mask) == 15


def test_grefcoco_has_several_targets_or_none(tmp_path: Path) -> None:
    refs = [ref([7, 8], "two mugs"), ref([-1], "a green cat")]
    instances = coco(annotation(7), annotation(8, polygon=RIGHT))
    (picture,), rejected = sorted_out(read(source(tmp_path, refs, instances, as_json=True), limits=LIMITS))
    several, nothing = (dialogue.turns[0] for dialogue in picture.dialogues)
    assert rejected == []
    assert (several.targets, several.names) == (("1-r0", "1-r1"), ("mug", "mug"))
    assert several.answer.count("{target}") == 2
    assert "the two mugs" not in several.question
    assert (nothing.targets, "{target}" in nothing.answer) == ((), False)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"image_id": "x"}, "image_id"),
        ({"split": None}, "split"),
        ({"ann_id": [7, "8"]}, "ann_id"),
        ({"ann_id": []}, "ann_id"),
        ({"ann_id": 99}, "annotation 99"),
        ({"sentences": []}, "sentences"),
        ({"sentences": [{"sent": "the [SEG]"}]}, "[SEG]"),
        ({"sentences": [{"sent": " "}]}, "empty"),
    ],
)
def test_a_broken_ref_is_rejected_and_the_others_read(tmp_path: Path, broken: dict[str, Any], reason: str) -> None:
    refs = [ref(7, "mug") | broken, ref(7, "mug")]
    (picture,), rejected = sorted_out(read(source(tmp_path, refs, coco(annotation(7))), limits=LIMITS))
    assert [type(item) for item in rejected] == [RejectedDialogue]
    assert reason in rejected[0].reason
    assert "refs[0]" in rejected[0].where
    assert len(picture.dialogues) == 1


def test_an_object_without_mask_takes_its_expressions_with_it(tmp_path: Path) -> None:
    instances = coco(annotation(7, segmentation=[]), annotation(8))
    (picture,), rejected = sorted_out(read(source(tmp_path, [ref(7, "mug"), ref(8, "cup")], instances), limits=LIMITS))
    assert [type(item) for item in rejected] == [RejectedRegion, RejectedDialogue]
    assert [dialogue.focus for dialogue in picture.dialogues] == ["cup"]


def test_a_missing_picture_is_rejected_with_its_expressions(tmp_path: Path) -> None:
    instances = coco(annotation(7, image_id=2), names=("1.png", "gone.png"))
    pictures, (rejected,) = sorted_out(
        read(source(tmp_path, [ref(7, "mug", "cup", image_id=2)], instances), limits=LIMITS)
    )
    assert pictures == []
    assert isinstance(rejected, RejectedPicture)
    assert "2 expressions" in rejected.reason


def test_an_ignored_category_leaves_out_region_and_expressions_without_a_fault(tmp_path: Path) -> None:
    instances = coco(annotation(7), annotation(8, category_id=2))
    limits = LIMITS.__class__(9, 1, ("table",))
    (picture,), rejected = sorted_out(
        read(source(tmp_path, [ref(7, "mug"), ref(8, "table")], instances), limits=limits)
    )
    assert rejected == []
    assert [region.category for region in picture.regions] == ["mug"]
    assert len(picture.dialogues) == 1


class _Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch harm",)


@pytest.mark.parametrize("value", [_Harmful(), [_Harmful()], {"a": Region}, Path("x")])
def test_a_pickle_that_asks_for_anything_but_plain_values_is_refused(
    tmp_path: Path, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="could do harm"):
        list(read(source(tmp_path, value, coco()), limits=LIMITS))
    assert not (tmp_path / "harm").exists()


def test_a_damaged_pickle_never_ends_in_a_traceback(tmp_path: Path) -> None:
    sound = pickle.dumps([ref(7, "mug", "cup")], protocol=2)
    dice = random.Random(0)
    for _ in range(300):
        altered = bytearray(sound)
        for _ in range(dice.randint(1, 4)):
            altered[dice.randrange(len(altered))] = dice.randrange(256)
        with contextlib.suppress(DataError):
            list(read(source(tmp_path, bytes(altered[: dice.randint(1, len(altered))]), coco()), limits=LIMITS))


def test_a_pickle_of_python_2_with_a_wrong_byte_loses_that_sentence_only(tmp_path: Path) -> None:
    good, bad = b"S'caf\\xc3\\xa9 sign'\n", b"S'caf\\xe9 sign'\n"
    head = b"(lp0\n(dS'image_id'\nI1\nsS'split'\nS'train'\nsS'ann_id'\nI7\nsS'sentences'\n(l"
    pickled = head + b"(dS'sent'\n" + good + b"sa(dS'sent'\n" + bad + b"sasa."
    (picture,), (rejected,) = sorted_out(read(source(tmp_path, pickled, coco(annotation(7))), limits=LIMITS))
    assert [dialogue.focus for dialogue in picture.dialogues] == ["café sign"]
    assert "Unicode" in rejected.reason


def test_splits_that_the_file_has_not_are_told(tmp_path: Path) -> None:
    made = source(tmp_path, [ref(7, "mug", split="testA")], coco(annotation(7)))
    with pytest.raises(DataError, match="testA"):
        build_index(Path(made.refs), Path(made.instances), splits=["train"])
