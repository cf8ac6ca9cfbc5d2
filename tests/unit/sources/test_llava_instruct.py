"""The reader of LLaVA-Instruct and ShareGPT4V records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miras.errors import DataError
from miras.sources.annotations import RejectedPicture
from miras.sources.llava_instruct import LlavaInstructSource, read, without_image
from miras.sources.pictures import FilePicture
from miras.sources.records import TextOnly
from miras.sources.told import RejectedDialogue
from tests.unit.sources.told_files import LIMITS, save_json, save_picture, sorted_out


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


def source(folder: Path, records: object) -> LlavaInstructSource:
    save_picture(folder / "base" / "coco" / "1.png")
    path = save_json(folder / "llava.json", records)
    return LlavaInstructSource(reader="llava_instruct", records=str(path), pictures=str(folder / "base"))


def test_records_of_one_picture_that_stand_apart_are_brought_together(tmp_path: Path) -> None:
    records = [
        {"id": "a", "image": "coco/1.png", "conversations": messages("<image>\nWhat?", "A mug.", "Which?", "Grün.")},
        {"id": "t", "conversations": messages("Hello", "Good day")},
        {"id": "b", "image": "coco/1.png", "conversations": messages("Why?\n<image>", "- so\n- so")},
    ]
    (picture, text), rejected = sorted_out(read(source(tmp_path, records), limits=LIMITS))
    assert rejected == []
    assert isinstance(picture, FilePicture)
    assert [len(dialogue.turns) for dialogue in picture.dialogues] == [2, 1]
    assert [turn.question for turn in picture.dialogues[0].turns] == ["What?", "Which?"]
    assert picture.dialogues[1].turns[0].question == "Why?"
    assert picture.dialogues[1].turns[0].answer == "- so\n- so"
    assert isinstance(text, TextOnly)
    assert (text.dialogues[0].image_id, text.dialogues[0].kind) == ("", "vqa")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("<image>\nA", "A"), ("A\n<image>", "A"), ("A <image> B", "A B"), ("A\n<image>\nB", "A\nB"), ("<image>", "")],
)
def test_the_image_marker_goes_wherever_it_stands(text: str, expected: str) -> None:
    assert without_image(text) == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("text", "expected an object"),
        ({"image": ["1.png", "2.png"]}, "one picture"),
        ({"image": "coco/1.png"}, "conversations"),
        ({"image": "coco/1.png", "conversations": messages("a", "b", "c")}, "ends with a question"),
        ({"image": "coco/1.png", "conversations": messages("<image>", "b")}, "empty"),
        ({"image": "coco/1.png", "conversations": [{"from": "gpt", "value": "a"}]}, "expected human"),
        ({"image": "coco/1.png", "conversations": messages("a", "see [SEG]")}, "[SEG]"),
        ({"conversations": messages("a", "")}, "empty"),
    ],
)
def test_a_wrong_record_is_rejected_and_the_others_read(tmp_path: Path, record: Any, reason: str) -> None:
    sound = {"id": "a", "image": "coco/1.png", "conversations": messages("a", "b")}
    (picture,), (rejected,) = sorted_out(read(source(tmp_path, [record, sound]), limits=LIMITS))
    assert len(picture.dialogues) == 1
    assert isinstance(rejected, RejectedDialogue)
    assert reason in rejected.reason
    assert "record 0" in rejected.where


@pytest.mark.parametrize("name", ["gone.png", "../../etc/passwd"])
def test_a_picture_that_is_not_there_is_rejected_with_its_dialogues(tmp_path: Path, name: str) -> None:
    record = {"id": "a", "image": name, "conversations": messages("a", "b")}
    pictures, (rejected,) = sorted_out(read(source(tmp_path, [record, record]), limits=LIMITS))
    assert pictures == []
    assert isinstance(rejected, RejectedPicture)
    assert "2 dialogues" in rejected.reason


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    made = source(tmp_path, [{"conversations": messages("a", "b")}])
    path = Path(made.records)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cut off"):
        list(read(made, limits=LIMITS))
