"""The Labelme reader on files made here, and against upstream's own conversion."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected, Rle
from miras.errors import DataError
from miras.sources import coco, labelme
from miras.sources.annotations import NotAnArea, RejectedPicture, RejectedRegion
from miras.sources.limits import ReadLimits
from miras.sources.records import SourcePicture

HEIGHT, WIDTH = 20, 30
SQUARE = [[2, 3], [12, 3], [12, 13], [2, 13]]  # 100 px
LIMITS = ReadLimits(max_pictures=99, max_megapixels=100, ignore_categories=("###",))


def shape(kind: str | None = "polygon", points: object = SQUARE, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"label": "mug", "points": points, "group_id": None, "flags": {}}
    return record | ({"shape_type": kind} if kind else {}) | changes


def content(*shapes: object, **changes: Any) -> dict[str, Any]:
    base = {"version": "5.7.0", "imagePath": "a.png", "imageData": None, "imageHeight": HEIGHT}
    return base | {"imageWidth": WIDTH, "shapes": list(shapes)} | changes


def png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def read(folder: Path, *, pictures: Path | None = None) -> tuple[list[SourcePicture], list[Rejected]]:
    source = labelme.LabelmeSource(reader="labelme", annotations=str(folder), pictures=str(pictures or ""))
    items = list(labelme.read(source, limits=LIMITS))
    rejected = [item for item in items if isinstance(item, Rejected)]
    return [item for item in items if isinstance(item, SourcePicture)], rejected


def read_one(folder: Path, value: object, *, with_file: bool = True) -> tuple[list[SourcePicture], list[Rejected]]:
    if with_file:
        Image.new("RGB", (WIDTH, HEIGHT), "red").save(folder / "a.png")
    (folder / "a.json").write_text(json.dumps(value))
    return read(folder)


def regions_of(folder: Path, *shapes: object) -> tuple[Region, ...]:
    return read_one(folder, content(*shapes))[0][0].regions


def mask_of(region: Region) -> Rle:
    assert region.mask
    return region.mask


def area(region: Region) -> int:
    return masks.area_px(mask_of(region))


@pytest.mark.parametrize(
    ("drawn", "area_px"),
    [
        (shape(), 100),
        (shape(None), 100),
        (shape("rectangle", [[2, 3], [12, 13]]), 100),
        (shape("rectangle", [[12, 13], [2, 3]]), 100),
        (shape("rectangle", SQUARE), 100),
        (shape("circle", [[15, 10], [20, 10]]), 78),
    ],
)
def test_every_shape_with_an_area_becomes_a_mask(tmp_path: Path, drawn: dict[str, Any], area_px: int) -> None:
    (region,) = regions_of(tmp_path, drawn)
    assert area(region) == pytest.approx(area_px, abs=4)
    assert (region.category, region.phrase) == ("mug", "")


def test_a_bitmap_lies_in_its_box(tmp_path: Path) -> None:
    bitmap = Image.new("1", (4, 3), 1)
    bitmap.putpixel((0, 0), 0)
    (region,) = regions_of(tmp_path, shape("mask", [[5.4, 6.2], [8.4, 8.2]], mask=png(bitmap)))
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[6:9, 5:9] = True
    expected[6, 5] = False
    assert np.array_equal(masks.decode(mask_of(region)), expected)


def test_a_bitmap_that_reaches_outside_is_cut(tmp_path: Path) -> None:
    (region,) = regions_of(tmp_path, shape("mask", [[-2, 18], [1, 21]], mask=png(Image.new("1", (4, 4), 1))))
    assert masks.box_xyxy_px(mask_of(region)) == (0, 18, 2, 20)


def test_shapes_of_one_label_and_group_are_one_region(tmp_path: Path) -> None:
    apart = shape("rectangle", [[20, 3], [25, 8]], group_id=0)
    expected = [("mug", 125), ("mug", 100), ("cup", 25)]
    regions = regions_of(tmp_path, shape(group_id=0), apart, shape(), apart | {"label": "cup"})
    assert [(region.category, area(region)) for region in regions] == expected


def test_points_and_lines_are_listed_but_are_no_faults(tmp_path: Path) -> None:
    value = content(shape(), *(shape(kind, [[1, 1], [5, 5]]) for kind in ("line", "point", "linestrip")))
    pictures, rejected = read_one(tmp_path, value)
    assert len(pictures[0].regions) == 1
    assert {type(item) for item in rejected} == {NotAnArea}
    assert all("not an area" in item.reason for item in rejected)


def test_ignored_labels_are_left_out_silently(tmp_path: Path) -> None:
    pictures, rejected = read_one(tmp_path, content(shape(label="__ignore__"), shape(label="###")))
    assert (pictures[0].regions, rejected) == ((), [])


def test_a_picture_without_shapes_is_kept(tmp_path: Path) -> None:
    pictures, rejected = read_one(tmp_path, content())
    assert (len(pictures), pictures[0].regions, rejected) == (1, (), [])


@pytest.mark.parametrize(
    ("drawn", "reason"),
    [
        (shape(points=[]), "0 points"),
        (shape(points=[[1, 1], [5, 5]]), "2 points"),
        (shape(points=[["1", "1"], ["9", "1"], ["9", "9"]]), "expected a number"),
        (shape(points="text"), "list of"),
        (shape(points=[[1, 2, 3]]), "list of"),
        (shape("bezier"), "shape type 'bezier' is unknown"),
        (shape("circle", [[1, 1]]), "1 points"),
        (shape("mask", [[5, 6], [8, 8]], mask="!!"), "not base64"),
        (shape("mask", [[5, 6], [9, 8]], mask=png(Image.new("1", (4, 3), 1))), "the bitmap has (4, 3) px"),
        (shape("mask", [[5, 6], [8, 8]], mask=png(Image.new("1", (4, 3), 0))), "no pixel"),
        (shape(label=""), "empty"),
        (shape(label=None), "name"),
        (shape(label="mug [SEG]"), "marker"),
        (shape(label="\ud800"), "Unicode"),
        ("text", "expected an object"),
    ],
)
def test_a_wrong_shape_is_rejected_alone(tmp_path: Path, drawn: object, reason: str) -> None:
    pictures, rejected = read_one(tmp_path, content(drawn, shape()))
    assert len(pictures[0].regions) == 1
    assert [type(item) for item in rejected] == [RejectedRegion]
    assert reason in rejected[0].reason


def test_a_group_with_a_wrong_piece_is_rejected_whole(tmp_path: Path) -> None:
    pictures, rejected = read_one(tmp_path, content(shape(group_id=1), shape(points=[], group_id=1)))
    assert (pictures[0].regions, len(rejected)) == ((), 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (content(imageHeight=1), "is stated"),
        (content(imagePath="..\\..\\x.png"), "climbs out"),
        (content(imagePath="gone.png"), "no picture"),
        (content(imageData="!!"), "not base64"),
        (content(shapes=None), "shapes"),
        ([], "shapes"),
    ],
)
def test_a_wrong_file_is_rejected_and_named(tmp_path: Path, value: object, reason: str) -> None:
    pictures, rejected = read_one(tmp_path, value)
    assert pictures == []
    assert [type(item) for item in rejected] == [RejectedPicture]
    assert "a.json" in rejected[0].where
    assert reason in rejected[0].reason


def test_the_embedded_picture_stands_in_for_a_missing_file(tmp_path: Path) -> None:
    embedded = png(Image.new("RGB", (WIDTH, HEIGHT), "blue"))
    for name in ("gone.png", "a.json"):  # the second: a file that names itself
        pictures, rejected = read_one(tmp_path, content(imagePath=name, imageData=embedded), with_file=False)
        assert rejected == []
        assert pictures[0].pixels.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_three_encodings_give_the_same_label(tmp_path: Path, encoding: str) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    text = json.dumps(content(shape(label="fauteuil d’été")), ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert read(tmp_path)[0][0].regions[0].category == "fauteuil d’été"


def test_subfolders_are_searched_and_names_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        read_one(tmp_path / name, content(shape()))
    pictures, _ = read(tmp_path)
    assert [picture.origin for picture in pictures] == ["one/a.json", "two/a.json"]
    assert len({picture.image_id for picture in pictures}) == 2


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_a_folder_without_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="Set `annotations`"):
        read(tmp_path / name)


def test_the_instance_example_equals_upstreams_own_conversion(shared_data: Path) -> None:
    example = shared_data / "labelme" / "labelme_examples" / "instance_segmentation"
    ours = {picture.image_id: picture for picture in read(example / "data_annotated")[0]}
    annotations = str(example / "data_dataset_coco" / "annotations.json")
    source = coco.CocoSource(reader="coco", annotations=annotations, pictures=str(example / "data_annotated"))
    converted = coco.read(source, limits=LIMITS)
    compared = 0
    for picture in converted:
        assert isinstance(picture, SourcePicture)
        candidates = ours[picture.image_id].regions
        assert len(candidates) == len(picture.regions)
        for region in picture.regions:
            same_name = [other for other in candidates if other.category == region.category]
            assert max(iou(region, other) for other in same_name) > 0.97
            compared += 1
    assert compared == 12


def iou(one: Region, other: Region) -> float:
    first, second = masks.decode(mask_of(one)), masks.decode(mask_of(other))
    return float((first & second).sum() / (first | second).sum())


def test_all_generations_of_the_format_are_read(shared_data: Path) -> None:
    pictures, rejected = read(shared_data / "labelme" / "nuts")
    assert (len(pictures), sum(len(picture.regions) for picture in pictures), rejected) == (6, 52, [])
    pictures, rejected = read(shared_data / "labelme" / "labelme_examples" / "primitives")
    assert [region.category for region in pictures[0].regions] == [
        "rectangle", "circle", "rectangle", "polygon", "octagon"
    ]  # fmt: skip
    assert [type(item) for item in rejected] == [NotAnArea] * 3
    scene_text = shared_data / "labelme" / "scene_text"
    pictures, rejected = read(scene_text / "labelme", pictures=scene_text / "imgs" / "test")
    assert (len(pictures), rejected) == (7, [])
