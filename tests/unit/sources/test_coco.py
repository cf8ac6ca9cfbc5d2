"""The COCO reader on files made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected, Rle
from miras.errors import DataError
from miras.sources import coco
from miras.sources.annotations import RejectedPicture, RejectedRegion
from miras.sources.limits import ReadLimits
from miras.sources.records import SourcePicture

HEIGHT, WIDTH = 20, 30
SQUARE = [2, 3, 12, 3, 12, 13, 2, 13]  # 100 px


def annotation(number: int = 1, *, image_id: int = 1, **changes: Any) -> dict[str, Any]:
    record = {"id": number, "image_id": image_id, "category_id": 1, "segmentation": [SQUARE], "iscrowd": 0}
    return record | changes


def content(*annotations: dict[str, Any], num_pictures: int = 1, **changes: Any) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
        for number in range(1, num_pictures + 1)
    ]
    categories = [{"id": 0, "name": "_background_"}, {"id": 1, "name": "red_mug"}, {"id": 2, "name": "cup"}]
    return {"images": images, "annotations": list(annotations), "categories": categories} | changes


def write(folder: Path, value: object, *, pictures: str = ".") -> Path:
    (folder / pictures).mkdir(exist_ok=True)
    for number in range(1, 4):
        Image.new("RGB", (WIDTH, HEIGHT), (number, 0, 0)).save(folder / pictures / f"{number}.png")
    path = folder / "annotations.json"
    path.write_text(json.dumps(value))
    return path


def read(
    path: Path, *, pictures: Path | None = None, max_megapixels: int = 1
) -> tuple[list[SourcePicture], list[Rejected]]:
    source = coco.CocoSource(reader="coco", annotations=str(path), pictures=str(pictures or ""))
    items = list(coco.read(source, limits=ReadLimits(9, max_megapixels, ("_background_",))))
    rejected = [item for item in items if isinstance(item, Rejected)]
    return [item for item in items if isinstance(item, SourcePicture)], rejected


def mask_of(region: Region) -> Rle:
    assert region.mask
    return region.mask


def read_one(folder: Path, **changes: Any) -> tuple[SourcePicture, list[Rejected]]:
    pictures, rejected = read(write(folder, content(annotation(**changes))))
    return pictures[0], rejected


@pytest.mark.parametrize("folder", [".", "JPEGImages", "images"])
def test_three_pictures_are_read_in_order(tmp_path: Path, folder: str) -> None:
    value = content(annotation(7, image_id=3), annotation(8, image_id=1), num_pictures=3)
    pictures, rejected = read(write(tmp_path, value, pictures=folder))
    assert rejected == []
    assert [picture.image_id for picture in pictures] == ["1", "2", "3"]
    assert [len(picture.regions) for picture in pictures] == [1, 0, 1]
    assert pictures[2].pixels.getpixel((0, 0)) == (3, 0, 0)


def test_a_polygon_becomes_its_mask_and_its_category_words(tmp_path: Path) -> None:
    picture, _ = read_one(tmp_path)
    region = picture.regions[0]
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[3:13, 2:12] = True
    assert np.array_equal(masks.decode(mask_of(region)), expected)
    assert (region.category, region.phrase, region.image_id) == ("red mug", "", picture.image_id)


def test_several_polygons_are_one_region(tmp_path: Path) -> None:
    apart = [20, 3, 25, 3, 25, 8, 20, 8]  # 25 px
    picture, _ = read_one(tmp_path, segmentation=[SQUARE, SQUARE, apart])
    assert [masks.area_px(mask_of(region)) for region in picture.regions] == [125]


def test_both_run_length_forms_give_the_polygons_mask(tmp_path: Path) -> None:
    packed = coco_mask.merge(coco_mask.frPyObjects([SQUARE], HEIGHT, WIDTH))
    compressed = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    plain = {"size": [HEIGHT, WIDTH], "counts": coco.unpack_runs(compressed["counts"])}
    value = content(annotation(1), annotation(2, segmentation=plain), annotation(3, segmentation=compressed))
    pictures, rejected = read(write(tmp_path, value))
    assert rejected == []
    assert len({region.mask for region in pictures[0].regions}) == 1


def test_unpacked_runs_are_those_of_the_mask() -> None:
    noise = np.random.default_rng(0).random((37, 41)) > 0.5
    flat = noise.T.reshape(-1).astype(int)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    expected = np.diff(np.concatenate([[0], changes]))
    assert coco.unpack_runs(masks.encode(noise).counts) == expected.tolist()


@pytest.mark.parametrize("counts", ["~~~", "é", "P", "P" * 100])
def test_a_corrupt_compressed_code_is_refused(counts: str) -> None:
    with pytest.raises(DataError, match="run-length code"):
        coco.unpack_runs(counts)


def test_a_crowd_is_a_group(tmp_path: Path) -> None:
    region = read_one(tmp_path, iscrowd=1)[0].regions[0]
    assert (region.category, region.attributes) == ("group of red mugs", {"crowd": "yes"})


def test_ignored_categories_are_left_out_silently(tmp_path: Path) -> None:
    picture, rejected = read_one(tmp_path, category_id=0)
    assert (picture.regions, rejected) == ((), [])


def test_one_name_under_two_ids_is_one_category(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "mug"}, {"id": 2, "name": "mug"}]
    value = content(annotation(1), annotation(2, category_id=2), categories=categories)
    pictures, _ = read(write(tmp_path, value))
    assert [region.category for region in pictures[0].regions] == ["mug", "mug"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"segmentation": []}, "no segmentation"),
        ({"segmentation": None}, "no segmentation"),
        ({"segmentation": [[]]}, "0 points"),
        ({"segmentation": [[1, 1, 5, 5]]}, "2 points"),
        ({"segmentation": [[*SQUARE, 1]]}, "odd number"),
        ({"segmentation": [SQUARE, [1, 1]]}, "1 points"),
        ({"segmentation": [[float("nan"), *SQUARE[1:]]]}, "nan"),
        ({"segmentation": [[float("inf"), *SQUARE[1:]]]}, "inf"),
        ({"segmentation": [["2", *SQUARE[1:]]]}, "expected a number"),
        ({"segmentation": [[True, *SQUARE[1:]]]}, "expected a number"),
        ({"segmentation": [[1e9, *SQUARE[1:]]]}, "far outside"),
        ({"segmentation": [[10**400, *SQUARE[1:]]]}, "finite"),
        ({"segmentation": [[40, 40, 50, 40, 50, 50]]}, "covers no pixel"),
        ({"segmentation": ["text"]}, "expected a polygon"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [100, 50]}}, "sum to 150"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [700, -100]}}, "whole numbers"),
        ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}}, "covers no pixel"),
        ({"segmentation": {"size": [WIDTH, HEIGHT], "counts": [600]}}, "of size"),
        ({"category_id": 9}, "not among the categories"),
        ({"category_id": [1]}, "category_id"),
        ({"image_id": 9}, "no picture"),
        ({"image_id": None}, "image_id"),
    ],
)
def test_a_wrong_annotation_is_rejected_alone(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    value = content(annotation(1, **changes), annotation(2))
    pictures, rejected = read(write(tmp_path, value))
    assert len(pictures[0].regions) == 1
    assert [type(item) for item in rejected] == [RejectedRegion]
    assert reason in rejected[0].reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"file_name": "gone.png"}, "no picture 'gone.png'"),
        ({"file_name": "../../outside.png"}, "climbs out"),
        ({"file_name": None}, "file_name"),
        ({"width": HEIGHT, "height": WIDTH}, f"has {WIDTH} x {HEIGHT}"),
    ],
)
def test_a_wrong_picture_is_rejected_with_its_annotations(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    value = content(annotation(1), annotation(2, image_id=2), num_pictures=2)
    value["images"][0] |= changes
    pictures, rejected = read(write(tmp_path, value))
    assert [picture.image_id for picture in pictures] == ["2"]
    assert [type(item) for item in rejected] == [RejectedPicture]
    assert reason in rejected[0].reason


def test_the_second_of_two_equal_ids_is_rejected(tmp_path: Path) -> None:
    value = content(annotation(1), annotation(1))
    value["images"].append(value["images"][0] | {"file_name": "2.png"})
    pictures, rejected = read(write(tmp_path, value))
    assert [len(picture.regions) for picture in pictures] == [1]
    assert [type(item) for item in rejected] == [RejectedRegion, RejectedPicture]
    assert all("same id" in item.reason for item in rejected)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "holds a list"),
        ({"images": [], "categories": []}, "annotations"),
        (content(categories=[{"id": 1}]), "categories"),
        (content(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "stands for"),
        (content(categories=[{"id": 1, "name": "a [SEG]"}]), "marker"),
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, value: object, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        read(write(tmp_path, value))


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        read(tmp_path / "gone.json")


def test_the_named_folder_of_pictures_is_used_alone(tmp_path: Path) -> None:
    path = write(tmp_path, content(annotation(1)))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert len(read(path, pictures=empty)[1]) == 1


def test_car_parts_are_read_whole(shared_data: Path) -> None:
    pictures, rejected = read(shared_data / "car_parts" / "test" / "annotations.json", max_megapixels=100)
    assert rejected == []
    assert (len(pictures), sum(len(picture.regions) for picture in pictures)) == (50, 403)
