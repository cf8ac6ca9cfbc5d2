"""The COCO panoptic reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miras.errors import DataError
from miras.sources.annotations import RejectedPicture, RejectedRegion
from miras.sources.coco_panoptic import CocoPanopticSource, read
from tests.unit.sources.region_files import (
    HEIGHT,
    LIMITS,
    WIDTH,
    block,
    categories,
    ignoring,
    pixels,
    save_picture,
    split,
    write_json,
)

DOG, CROWD, WALL = 5, 300, 70_000  # segment ids that need one, two and three bytes


def write(folder: Path, *segments: dict[str, Any], **changes: Any) -> CocoPanopticSource:
    save_picture(folder / "1.png")
    ids = DOG * block(0, 0, 5, 9) + CROWD * block(5, 0, 9, 9) + WALL * block(9, 0, 20, 9)
    (folder / "png").mkdir()
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(
        folder / "png" / "1.png"
    )
    value = {
        "images": [{"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": list(segments)} | changes],
        "categories": [
            {"id": 1, "name": "dog", "isthing": 1},
            {"id": 2, "name": "wall-other-merged", "isthing": 0},
            {"id": 3, "name": "wall-brick", "isthing": 0},
        ],
    }
    path = write_json(folder / "panoptic.json", value)
    return CocoPanopticSource(reader="coco_panoptic", annotations=str(path), segments=str(folder / "png"), pictures="")


def test_things_crowds_and_stuff_are_regions(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        {"id": WALL, "category_id": 2, "iscrowd": 0},
        {"id": DOG, "category_id": 1, "iscrowd": 0},
        {"id": CROWD, "category_id": 1, "iscrowd": 1},
    )
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert categories(picture.regions) == ["wall", "dog", "group of dogs"]
    assert [region.attributes for region in picture.regions] == [{"kind": "semantic"}, {}, {"crowd": "yes"}]
    expected = [block(9, 0, 20, 9), block(0, 0, 5, 9), block(5, 0, 9, 9)]
    assert all((pixels(region) == mask).all() for region, mask in zip(picture.regions, expected, strict=True))


def test_wrong_segments_are_rejected_alone(tmp_path: Path) -> None:
    source = write(tmp_path, {"id": 9, "category_id": 1}, {"id": DOG, "category_id": 9}, {"id": WALL, "category_id": 3})
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert categories(picture.regions) == ["brick wall"]
    assert [type(item) for item in rejected] == [RejectedRegion, RejectedRegion]


def test_a_missing_png_rejects_the_picture(tmp_path: Path) -> None:
    pictures, rejected = split(read(write(tmp_path, file_name="gone.png"), limits=LIMITS))
    assert (pictures, [type(item) for item in rejected]) == ([], [RejectedPicture])


def test_ignored_classes_are_left_out_silently(tmp_path: Path) -> None:
    source = write(tmp_path, {"id": WALL, "category_id": 3})
    (picture,), rejected = split(read(source, limits=ignoring("wall-brick")))
    assert (picture.regions, rejected) == ((), [])


def test_two_categories_with_one_id_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, {"id": DOG, "category_id": 1})
    path = Path(source.annotations)
    value = json.loads(path.read_text())
    value["categories"].append({"id": 1, "name": "cat", "isthing": 1})
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match="same id 1"):
        list(read(source, limits=LIMITS))
