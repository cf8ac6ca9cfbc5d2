"""The PASCAL-Part reader: MATLAB files with objects and parts, JSON with parts alone, short names in words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from miras.dialogue import masks
from miras.dialogue.records import Rle
from miras.errors import DataError
from miras.sources.pascal_part import PascalPartSource, read
from miras.sources.pascal_part_names import PARTS, object_words, part_words
from tests.unit.sources.region_files import (
    HEIGHT,
    LIMITS,
    WIDTH,
    block,
    categories,
    ignoring,
    pixels,
    rle,
    save_picture,
    split,
    write_json,
)


def structs(records: list[dict[str, Any]]) -> np.ndarray:
    """Records as MATLAB's struct array (1, n)."""
    array = np.empty((1, len(records)), dtype=[(name, object) for name in records[0]] if records else object)
    for place, record in enumerate(records):
        array[0, place] = tuple(record.values())
    return array


def part(name: str, mask: np.ndarray) -> dict[str, Any]:
    return {"part_name": name, "mask": mask.astype(np.uint8)}


def write(folder: Path, *parts: dict[str, Any], mask: np.ndarray | None = None) -> PascalPartSource:
    save_picture(folder / "2008_1.jpg")
    whole = block(1, 1, 25, 15) if mask is None else mask
    thing = {"class": "horse", "class_ind": 13, "mask": whole.astype(np.uint8), "parts": structs(list(parts))}
    bare = {"class": "diningtable", "class_ind": 11, "mask": block(26, 1, 29, 9).astype(np.uint8), "parts": structs([])}
    savemat(folder / "2008_1.mat", {"anno": structs([{"imname": "2008_1", "objects": structs([thing, bare])}])})
    return PascalPartSource(reader="pascal_part", annotations=str(folder), pictures="")


def test_parts_are_children_of_their_object(tmp_path: Path) -> None:
    source = write(tmp_path, part("rfuleg", block(2, 9, 6, 14)), part("tail", block(20, 2, 24, 9)))
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert categories(picture.regions) == ["horse", "right front upper leg", "tail", "dining table"]
    assert [region.parent_id for region in picture.regions] == [None, "2008_1-r0", "2008_1-r0", None]
    assert (pixels(picture.regions[1]) == block(2, 9, 6, 14)).all()


def test_a_wrong_part_is_rejected_alone(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        part("xyz", block(2, 9, 6, 14)),
        part("head", np.zeros((HEIGHT, WIDTH))),
        part("neck", np.ones((WIDTH, HEIGHT))),
        part("tail", block(20, 2, 24, 9)),
    )
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert categories(picture.regions) == ["horse", "tail", "dining table"]
    expected = ("'xyz' is the name of no part", "covers no pixel", "a mask of (30, 20)")
    assert all(words in item.reason for words, item in zip(expected, rejected, strict=True))


def test_a_rejected_object_takes_its_parts_along(tmp_path: Path) -> None:
    source = write(tmp_path, part("tail", block(20, 2, 24, 9)), mask=np.zeros((HEIGHT, WIDTH)))
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert categories(picture.regions) == ["dining table"]
    assert ["covers no pixel" in rejected[0].reason, "could not be read" in rejected[1].reason] == [True, True]


def test_ignored_names_are_left_out_silently(tmp_path: Path) -> None:
    source = write(tmp_path, part("tail", block(20, 2, 24, 9)))
    (picture,), rejected = split(read(source, limits=ignoring("horse")))
    assert (categories(picture.regions), rejected) == (["dining table"], [])


def test_a_damaged_file_or_missing_picture_is_rejected_alone(tmp_path: Path) -> None:
    source = write(tmp_path)
    good = (tmp_path / "2008_1.mat").read_bytes()
    (tmp_path / "2008_0.mat").write_bytes(good[: len(good) // 2])
    (tmp_path / "2008_2.mat").write_bytes(b"")
    savemat(tmp_path / "2008_3.mat", {"other": 1})
    savemat(tmp_path / "2008_4.mat", {"anno": structs([{"imname": "../../gone", "objects": structs([])}])})
    pictures, rejected = split(read(source, limits=LIMITS))
    assert [picture.image_id for picture in pictures] == ["2008_1"]
    assert len(rejected) == 4
    assert "climbs out" in rejected[-1].reason


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.mat"):
        list(read(PascalPartSource(reader="pascal_part", annotations=str(tmp_path), pictures=""), limits=LIMITS))


def test_the_json_form_gives_parts_named_with_their_object(tmp_path: Path) -> None:
    save_picture(tmp_path / "1.png")
    value = {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 5, "segmentation": rle(block(2, 2, 5, 9))}],
        "categories": [{"id": 5, "name": "pottedplant:license plate"}],
    }
    path = write_json(tmp_path / "train.json", value)
    source = PascalPartSource(reader="pascal_part", annotations=str(path), pictures="")
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert categories(picture.regions) == ["potted plant license plate"]
    assert picture.regions[0].attributes == {"object": "potted plant", "part": "license plate"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("lear", "left ear"),
        ("rear", "right ear"),
        ("lleg", "left leg"),
        ("llleg", "left lower leg"),
        ("rblleg", "right back lower leg"),
        ("lfho", "left front hoof"),
        ("wheel_12", "wheel"),
        ("fwheel", "front wheel"),
        ("bliplate", "back licence plate"),
        ("croofside_3", "coach roof side"),
        ("leftmirror", "left mirror"),
    ],
)
def test_short_names_become_words(raw: str, words: str) -> None:
    assert part_words(raw) == words


def test_only_dining_tables_are_annotated() -> None:
    """No other table may be said to be absent because none is outlined."""
    assert object_words("table") == object_words("diningtable") == "dining table"


def test_the_pack_is_read_as_its_derived_masks_say(shared_data: Path) -> None:
    folder = shared_data / "pascal_part"
    derived = json.loads((folder / "derived_objects_parts_rle.json").read_text())
    by_id = {record["id"]: record for record in derived["annotations"]}
    stems = {image["id"]: Path(image["file_name"]).stem for image in derived["images"]}

    def told(record: dict[str, Any]) -> tuple[object, ...]:
        code = Rle.model_validate(record["segmentation"])
        parent = by_id.get(record["parent_id"])
        words = part_words(record["label"]) if parent else object_words(record["label"])
        return stems[record["image_id"]], words, masks.decode(code).tobytes(), parent and object_words(parent["label"])

    source = PascalPartSource(reader="pascal_part", annotations=str(folder), pictures="")
    pictures, rejected = split(read(source, limits=LIMITS))
    regions = {region.region_id: region for picture in pictures for region in picture.regions}
    found = Counter(
        (
            region.image_id,
            region.category,
            pixels(region).tobytes(),
            regions[region.parent_id].category if region.parent_id else None,
        )
        for region in regions.values()
    )
    assert rejected == []
    assert found == Counter(told(record) for record in derived["annotations"])
    assert len(PARTS) > 80
