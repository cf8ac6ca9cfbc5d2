"""The LVIS reader: names, licences, verified absences, and faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pycocotools import mask as coco_mask

from miras.dialogue import masks
from miras.errors import DataError
from miras.generate.view import OTHERS
from miras.sources.annotations import RejectedPicture, RejectedRegion
from miras.sources.lvis import LvisSource, read, words_and_sense
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

MOUSE, COMPUTER_MOUSE, BOW, LAMP = 1, 2, 3, 4


def content(**changes: Any) -> dict[str, Any]:
    image = {"id": 7, "height": HEIGHT, "width": WIDTH, "license": 4}
    image |= {"coco_url": "http://images.example/val2017/000000000007.jpg"}
    image |= {"neg_category_ids": [MOUSE, BOW, LAMP], "not_exhaustive_category_ids": [BOW]}
    mask = rle(block(2, 3, 12, 13))
    value = {
        "licenses": [{"id": 4, "name": "Attribution", "url": "http://licences.example/by/2.0"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": COMPUTER_MOUSE, "segmentation": mask}],
        "images": [image],
        "categories": [
            {"id": MOUSE, "name": "mouse_(animal)", "synonyms": ["mouse_(animal)"], "def": "a rodent"},
            {"id": COMPUTER_MOUSE, "name": "mouse_(computer_equipment)", "synonyms": ["mouse_(x)", "computer_mouse"]},
            {"id": BOW, "name": "bow_(weapon)"},
            {"id": LAMP, "name": "table_lamp"},
        ],
    }
    return value | changes


def write(folder: Path, value: dict[str, Any]) -> LvisSource:
    save_picture(folder / "val2017" / "000000000007.jpg")
    return LvisSource(reader="lvis", annotations=str(write_json(folder / "lvis.json", value)), pictures="")


def test_a_picture_is_found_by_its_address_and_carries_its_licence(tmp_path: Path) -> None:
    (picture,), rejected = split(read(write(tmp_path, content()), limits=LIMITS))
    assert rejected == []
    assert picture.licence == "http://licences.example/by/2.0"
    assert (pixels(picture.regions[0]) == block(2, 3, 12, 13)).all()
    assert picture.regions[0].category == "mouse"
    assert picture.regions[0].attributes == {"sense": "computer equipment", "synonyms": "computer mouse"}


def test_what_is_absent_is_neither_present_in_words_nor_doubtful(tmp_path: Path) -> None:
    (picture,), _ = split(read(write(tmp_path, content()), limits=LIMITS))
    assert picture.absent == ("table lamp",)  # a mouse is there, bows were not all annotated


def test_a_class_that_is_not_all_outlined_is_marked_in_that_picture_alone(tmp_path: Path) -> None:
    value = content()
    value["annotations"].append(value["annotations"][0] | {"id": 2, "category_id": BOW})
    value["images"].append(value["images"][0] | {"id": 8, "coco_url": "val2017/8.jpg"})
    value["images"][1] |= {"not_exhaustive_category_ids": "all", "neg_category_ids": [[1], None, 99]}  # malformed
    value["annotations"].append(value["annotations"][1] | {"id": 3, "image_id": 8})
    source = write(tmp_path, value)
    save_picture(tmp_path / "val2017" / "8.jpg", shade=9)
    pictures, rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    marks = [[(region.category, region.attributes.get(OTHERS)) for region in item.regions] for item in pictures]
    assert marks == [[("mouse", None), ("bow", "yes")], [("bow", None)]]
    assert pictures[1].absent == ()


def test_the_class_of_people_is_called_person_in_every_version(tmp_path: Path) -> None:
    value = content()
    value["categories"][1] = {"id": COMPUTER_MOUSE, "name": "baby", "synonyms": ["baby", "man", "person"]}
    (picture,), _ = split(read(write(tmp_path, value), limits=LIMITS))
    assert categories(picture.regions) == ["person"]
    assert picture.regions[0].attributes == {"synonyms": "baby, man"}


@pytest.mark.parametrize("record", [{"id": MOUSE, "name": "mouse"}, {"id": 9, "name": 9}, {"name": "mouse"}, "text"])
def test_a_category_without_id_or_name_or_twice_stops_the_reading(tmp_path: Path, record: object) -> None:
    value = content()
    value["categories"].append(record)
    with pytest.raises(DataError, match=r"categories\[4\]: .*Correct it"):
        list(read(write(tmp_path, value), limits=LIMITS))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("bow_(decorative_ribbons)", ("bow", "decorative ribbons")),
        ("street_sign", ("street sign", "")),
        ("(odd)", ("(odd)", "")),
    ],
)
def test_a_sense_is_taken_off_a_name(raw: str, expected: tuple[str, str]) -> None:
    assert words_and_sense(raw) == expected


def test_ignored_classes_are_left_out_silently(tmp_path: Path) -> None:
    limits = ignoring("mouse_(computer_equipment)")
    (picture,), rejected = split(read(write(tmp_path, content()), limits=limits))
    assert (picture.regions, rejected) == ((), [])


def test_each_fault_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    value = content()
    good = value["annotations"][0]
    value["annotations"] += [
        good,  # the same id
        good | {"id": 2, "category_id": 99},
        good | {"id": 3, "segmentation": []},
        good | {"id": 4, "image_id": 8},
        good | {"id": 5, "image_id": None},
        "text",
    ]
    value["images"] += [value["images"][0], {"id": 9}, "text"]
    (picture,), rejected = split(read(write(tmp_path, value), limits=LIMITS))
    assert len(picture.regions) == 1
    reasons = {RejectedRegion: [], RejectedPicture: []}
    for item in rejected:
        reasons[type(item)].append(item.reason)
    expected = ("same id 1", "99 is not among", "no segmentation", "no picture in the file", "image_id", "found str")
    assert len(reasons[RejectedRegion]) == len(expected)
    assert all(words in reason for words, reason in zip(expected, reasons[RejectedRegion], strict=True))
    expected = ("same id", "no file_name", "found str")
    assert all(words in reason for words, reason in zip(expected, reasons[RejectedPicture], strict=True))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[1, 2]", "nothing under"),
        ('{"images": {}, "annotations": []}', 'a list under "images"'),
        ('{"images": [{"id": 1}', "cut off"),
    ],
)
def test_a_file_that_is_not_lvis_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "lvis.json"
    path.write_text(text)
    with pytest.raises(DataError, match=reason):
        list(read(LvisSource(reader="lvis", annotations=str(path), pictures=""), limits=LIMITS))


def test_the_sample_of_version_0_5_is_read_whole(shared_data: Path) -> None:
    path = shared_data / "lvis_v05" / "lvis_val_subset.json"
    source = LvisSource(reader="lvis", annotations=str(path), pictures="")
    pictures, rejected = split(read(source, limits=LIMITS))
    stated = json.loads(path.read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in stated["images"]}
    areas = [
        int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(item["segmentation"], *sizes[item["image_id"]]))))
        for item in stated["annotations"]
    ]
    found = [masks.area_px(region.mask) for picture in pictures for region in picture.regions if region.mask]
    assert rejected == []
    assert len(pictures) == 22
    assert sorted(found) == sorted(areas)
    assert all(picture.licence.startswith("http") and picture.absent for picture in pictures)
    assert not any(set(picture.absent) & set(categories(picture.regions)) for picture in pictures)


def test_every_broken_coco_file_of_the_pack_is_refused_here_too(shared_data: Path) -> None:
    for path in sorted((shared_data / "bad_inputs" / "coco").glob("*.json")):
        source = LvisSource(reader="lvis", annotations=str(path), pictures="")
        is_sound = path.name in ("good.json", "out_of_bounds_polygon.json", "duplicate_category_names.json")
        try:
            _, rejected = split(read(source, limits=LIMITS))
        except DataError:
            assert not is_sound, path.name
            continue
        assert bool(rejected) is not is_sound, path.name
