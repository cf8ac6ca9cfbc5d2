"""The reader of COCO captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miras.errors import DataError
from miras.sources.annotations import RejectedPicture
from miras.sources.captions import CaptionsSource, read
from miras.sources.told import RejectedDialogue
from tests.unit.sources.told_files import LIMITS, coco, save_json, save_picture, sorted_out


def source(folder: Path, content: dict[str, Any]) -> CaptionsSource:
    save_picture(folder / "pictures" / "1.png")
    path = save_json(folder / "captions.json", content)
    return CaptionsSource(reader="captions", annotations=str(path), pictures=str(folder / "pictures"))


def caption(text: Any, *, image_id: Any = 1) -> dict[str, Any]:
    return {"id": 1, "image_id": image_id, "caption": text}


def test_every_caption_is_a_dialogue_of_its_picture(tmp_path: Path) -> None:
    content = coco(caption("A mug.\n"), caption("Two  mugs on a table"))
    (picture,), rejected = sorted_out(read(source(tmp_path, content), limits=LIMITS))
    assert rejected == []
    assert [dialogue.turns[0].answer for dialogue in picture.dialogues] == ["A mug.", "Two mugs on a table"]
    assert {dialogue.kind for dialogue in picture.dialogues} == {"caption"}
    assert len({dialogue.dialogue_id for dialogue in picture.dialogues}) == 2
    assert picture.regions == ()


def test_what_cannot_be_used_is_rejected_and_counted(tmp_path: Path) -> None:
    unusable = [
        caption(" "),
        caption(None),
        caption("x", image_id="1"),
        caption("stray", image_id=9),
    ]
    content = coco(caption("A mug."), *unusable, names=("1.png", "bare.png"))
    pictures, rejected = sorted_out(read(source(tmp_path, content), limits=LIMITS))
    assert len(pictures[0].dialogues) == 1
    assert [type(item) for item in rejected].count(RejectedDialogue) == 4
    assert [type(item) for item in rejected].count(RejectedPicture) == 1
    assert any("annotations[1]" in item.where for item in rejected)


def test_an_instances_file_is_told_from_a_captions_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="captions file"):
        list(read(source(tmp_path, {"info": {}}), limits=LIMITS))
