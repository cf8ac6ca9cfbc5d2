"""The PACO reader: parts belong to their objects, attributes to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from miras.sources.paco import PacoSource, read
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

MUG, HANDLE, LAMP = 1, 2, 3


def annotation(number: int, category: int, owner: int | None, **changes: Any) -> dict[str, Any]:
    record = {"id": number, "image_id": 1, "category_id": category, "obj_ann_id": owner, "iscrowd": 0}
    return record | {"segmentation": rle(block(number, 2, number + 4, 9))} | changes


def write(folder: Path, *annotations: dict[str, Any], **picture: Any) -> PacoSource:
    save_picture(folder / "val2017" / "1.png")
    value = {
        "images": [{"id": 1, "file_name": "val2017/1.png", "height": HEIGHT, "width": WIDTH} | picture],
        "annotations": list(annotations),
        "categories": [
            {"id": MUG, "name": "mug_(cup)", "supercategory": "OBJECT"},
            {"id": HANDLE, "name": "mug_(cup):pull_handle", "supercategory": "PART"},
            {"id": LAMP, "name": "lamp", "supercategory": "OBJECT"},
        ],
        "attributes": [
            {"id": 0, "name": "light_blue"},
            {"id": 1, "name": "red"},
            {"id": 2, "name": "black"},
            {"id": 40, "name": "plastic"},
        ],
        "attr_type_to_attr_idxs": {"color": [0, 1, 2], "material": [40]},
    }
    return PacoSource(reader="paco", annotations=str(write_json(folder / "paco.json", value)), pictures="")


def test_parts_follow_their_objects_whatever_the_order(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        annotation(10, HANDLE, 12),
        annotation(11, MUG, 11),
        annotation(12, MUG, 12),
        annotation(13, HANDLE, 11),
    )
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert categories(picture.regions) == ["mug", "mug", "pull handle", "pull handle"]
    assert [region.region_id for region in picture.regions] == ["1-r0", "1-r1", "1-r2", "1-r3"]
    assert [region.parent_id for region in picture.regions] == [None, None, "1-r1", "1-r0"]
    assert (pixels(picture.regions[2]) == block(10, 2, 14, 9)).all()


def test_colours_are_the_dominant_ones_and_at_most_two(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        annotation(1, MUG, 1, attribute_ids=[0, 1, 40], dom_color_ids=[0]),
        annotation(2, MUG, 2, attribute_ids=[0, 1]),
        annotation(3, MUG, 3, attribute_ids=[0, 1, 2, 999]),
        annotation(4, MUG, 4),
    )
    (picture,), _ = split(read(source, limits=LIMITS))
    stated = [region.attributes for region in picture.regions]
    assert stated == [{"colour": "light blue", "material": "plastic"}, {"colour": "light blue and red"}, {}, {}]


def test_a_part_without_its_object_is_rejected(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        annotation(1, MUG, 1, segmentation=[]),
        annotation(2, HANDLE, 1),
        annotation(3, HANDLE, 77),
        annotation(4, HANDLE, 4),
    )
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert picture.regions == ()
    expected = ("no segmentation", "names no object", "object 1,", "object 77,")
    assert all(words in item.reason for words, item in zip(expected, rejected, strict=True))


def test_an_ignored_object_takes_its_parts_along(tmp_path: Path) -> None:
    source = write(tmp_path, annotation(1, MUG, 1), annotation(2, HANDLE, 1))
    (picture,), rejected = split(read(source, limits=ignoring("mug_(cup)")))
    assert (picture.regions, rejected) == ((), [])


def test_objects_that_are_surely_not_there_and_those_not_all_outlined_are_told_apart(tmp_path: Path) -> None:
    picture = {"neg_category_ids": [LAMP, HANDLE], "not_exhaustive_category_ids": [HANDLE]}
    source = write(tmp_path, annotation(1, MUG, 1), annotation(2, HANDLE, 1), **picture)
    (found,), _ = split(read(source, limits=LIMITS))
    assert found.absent == ("lamp",)
    assert [region.attributes for region in found.regions] == [{}, {"others": "yes"}]
