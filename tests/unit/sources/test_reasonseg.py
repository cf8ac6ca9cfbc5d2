"""The ReasonSeg reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from miras.dialogue import masks
from miras.errors import DataError
from miras.sources.annotations import RejectedPicture, RejectedRegion
from miras.sources.reasonseg import ReasonSegSource, read
from miras.sources.told import UNNAMED, RejectedDialogue
from tests.unit.sources.told_files import HEIGHT, LIMITS, RIGHT, WIDTH, save_json, save_picture, shape, sorted_out

INNER = [4, 5, 8, 5, 8, 9, 4, 9]  # 16 px within LEFT
QUESTION = "What would keep the coffee warm?"


def source(folder: Path, content: Any, *, explanations: object = None) -> ReasonSegSource:
    save_picture(folder / "train" / "1.png")
    save_json(folder / "train" / "1.json", content)
    path = save_json(folder / "explanatory.json", explanations) if explanations is not None else ""
    return ReasonSegSource(reader="reasonseg", folder=str(folder / "train"), explanations=str(path))


def content(*shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"text": [QUESTION], "is_sentence": True, "shapes": list(shapes)} | changes


@pytest.mark.parametrize(
    ("shapes", "area_px"),
    [
        ([shape("target"), shape("ignore", INNER)], 100 - 16),  # the small one lies on top, whatever the order
        ([shape("ignore", INNER), shape("target")], 100 - 16),
        ([shape("target", INNER), shape("ignore")], 16),
        ([shape("target"), shape("flag", RIGHT)], 100),
        ([shape("target"), shape("target", RIGHT)], 200),
    ],
)
def test_shapes_are_painted_from_large_to_small(tmp_path: Path, shapes: list[dict[str, Any]], area_px: int) -> None:
    (picture,), rejected = sorted_out(read(source(tmp_path, content(*shapes)), limits=LIMITS))
    assert rejected == []
    region = picture.regions[0]
    assert masks.area_px(region.mask) == area_px
    ignored = masks.decode(region.ignored) if region.ignored else np.zeros((HEIGHT, WIDTH), bool)
    assert ignored.any() == any(shape["label"] == "ignore" for shape in shapes)
    assert not (ignored & masks.decode(region.mask)).any()


def test_a_question_stays_as_it_is_and_a_phrase_is_asked_for(tmp_path: Path) -> None:
    (picture,), _ = sorted_out(read(source(tmp_path, content(shape("target"))), limits=LIMITS))
    turn = picture.dialogues[0].turns[0]
    assert turn.question.startswith(QUESTION + " ")
    assert (turn.names, picture.regions[0].phrase) == ((UNNAMED,), UNNAMED)
    phrased = content(shape("target"), text=["the warm mug", "what holds coffee"], is_sentence=False)
    (picture,), _ = sorted_out(read(source(tmp_path, phrased), limits=LIMITS))
    assert [dialogue.focus for dialogue in picture.dialogues] == ["warm mug", "what holds coffee"]
    assert "the what holds" not in picture.dialogues[1].turns[0].question


def test_explanations_become_answers_and_strays_are_rejected(tmp_path: Path) -> None:
    explanations = [
        {"image": "1.jpg", "query": QUESTION.upper(), "outputs": "The mug is insulated."},
        {"image": "1.jpg", "query": "Why?", "outputs": "It is closed."},
        {"image": "other.jpg", "query": "Why?", "outputs": "So."},
        {"image": "1.jpg", "query": "Why?"},
    ]
    made = source(tmp_path, content(shape("target")), explanations=explanations)
    (picture,), rejected = sorted_out(read(made, limits=LIMITS))
    first, second = (dialogue.turns[0] for dialogue in picture.dialogues)
    assert first.answer.startswith("The mug is insulated. ")
    assert first.answer.count("{target}") == 1
    assert (second.question.startswith("Why? "), second.answer.startswith("It is closed. ")) == (True, True)
    assert [type(item) for item in rejected] == [RejectedDialogue, RejectedDialogue]


def test_a_file_in_cp1252_is_read(tmp_path: Path) -> None:
    made = source(tmp_path, content(shape("target")))
    text = json.dumps(content(shape("target"), text=["Where is the café?"]), ensure_ascii=False)
    (Path(made.folder) / "1.json").write_bytes(text.encode("cp1252"))
    (picture,), _ = sorted_out(read(made, limits=LIMITS))
    assert picture.dialogues[0].turns[0].question.startswith("Where is the café? ")


@pytest.mark.parametrize(
    ("broken", "kind", "reason"),
    [
        ([], RejectedPicture, "not a ReasonSeg file"),
        (content(shape("target"), is_sentence="yes"), RejectedPicture, "is_sentence"),
        (content(shape("ignore")), RejectedRegion, "no pixel of a target"),
        (content(shape("target"), {"label": 3}), RejectedRegion, "shapes[1]"),
        (content(shape("target"), text=[]), RejectedRegion, "text"),
        (content(shape("target"), text=["<image>"]), RejectedRegion, "<image>"),
    ],
)
def test_a_broken_file_is_rejected(tmp_path: Path, broken: Any, kind: type, reason: str) -> None:
    pictures, (rejected,) = sorted_out(read(source(tmp_path, broken), limits=LIMITS))
    assert isinstance(rejected, kind)
    assert reason in rejected.reason
    assert all(picture.regions == () and picture.dialogues == () for picture in pictures)


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a split of ReasonSeg"):
        list(read(ReasonSegSource(reader="reasonseg", folder=str(tmp_path), explanations=""), limits=LIMITS))
