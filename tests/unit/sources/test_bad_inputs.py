"""Every file of the data pack's broken and odd inputs: refused for the right reason, or read correctly.

The pack's manifest says which may be used; the tables here say what the reason speaks of, or what is read.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from miras.dialogue import masks
from miras.dialogue.records import Rejected
from miras.errors import DataError
from miras.sources import coco, labelme
from miras.sources.limits import ReadLimits
from miras.sources.mask_files import read_mask_file
from miras.sources.pictures import open_picture
from miras.sources.prist import PristRecord, read_prist
from miras.sources.records import SourcePicture

MAX_MEGAPIXELS = 100
NUM_CAMVID_CLASSES = 12
MASK_SIZE = (360, 480)

REFUSED_PICTURES = {
    "truncated.jpg": "cut off",
    "zero_bytes.jpg": "empty (0 bytes)",
    "not_an_image.jpg": "not a picture",
    "decompression_bomb.png": "more than 100 megapixels",
}
READ_PICTURES = {  # width, height
    "images/png_named_jpg.jpg": (240, 180),
    "images/exif_rotated.jpg": (300, 400),
    "images/cmyk.jpg": (256, 256),
    "images/gray.jpg": (256, 256),
    "images/rgba.png": (256, 256),
    "images/one_pixel.png": (1, 1),
    "images/name with spaces (1).jpg": (229, 220),
    "masks/image.jpg": (480, 360),
    "coco/images/train100.jpg": (512, 512),
    "labelme/2011_000006.jpg": (500, 375),
}
REFUSED_MASKS = {
    "mask_wrong_size.png": "size 240 x 180",
    "mask_transposed.png": "axes are swapped",
    "mask_unknown_class.png": "class index 37",
    "mask_colour_not_index.png": "colours (mode RGB)",
}
REFUSED_COCO = {
    "empty_polygon.json": "0 points",
    "no_segmentation.json": "no segmentation",
    "two_point_polygon.json": "2 points",
    "odd_coordinate_count.json": "odd number",
    "wrong_category_id.json": "category id 999",
    "wrong_image_id.json": "image id 987654",
    "missing_image_file.json": "does_not_exist.jpg",
    "size_disagrees.json": "640 x 480",
    "duplicate_ids.json": "same id",
    "nan_coordinate.json": "nan",
    "missing_annotations_key.json": '"annotations"',
    "bad_rle_sum.json": "sum to 250",
    "path_traversal.json": "climbs out",
    "top_level_list.json": "holds a list",
}
COCO_WITHOUT_PICTURE = ("missing_image_file.json", "size_disagrees.json", "path_traversal.json")
READ_COCO = ("good.json", "out_of_bounds_polygon.json", "duplicate_category_names.json")
REFUSED_LABELME = {
    "truncated.json": "cut off",
    "empty_polygon.json": "0 points",
    "two_point_polygon.json": "2 points",
    "unknown_shape_type.json": "'bezier'",
    "missing_shapes_key.json": '"shapes"',
    "image_path_traversal.json": "climbs out",
    "size_disagrees.json": "1000 x 1000",
    "bad_base64_image.json": "not base64",
    "numbers_as_text.json": "expected a number",
}
READ_LABELME = {  # number of regions: ten shapes, one of them __ignore__, four of them one group
    "good.json": 6,
    "non_utf8_cp1252.json": 6,
    "utf8_with_bom.json": 6,
    "no_shapes.json": 0,
}
REFUSED_PRIST = {
    "no_seg_token.json": "0 [SEG]",
    "seg_in_question.json": "only the last answer",
    "empty_dialogue.json": "dialogue is empty",
    "roles_not_alternating.json": "roles alternate",
    "ends_with_question.json": "ends with a question",
    "unknown_role.json": "role 'system'",
    "missing_focus.json": 'no "focus"',
    "null_value.json": "None",
    "img_id_traversal.json": "../../secret.jpg",
}
READ_PRIST = ("good.json", "very_long_turn.json")


@pytest.fixture
def bad_inputs(shared_data: Path) -> Path:
    return shared_data / "bad_inputs"


def read_coco(path: Path) -> tuple[list[SourcePicture], list[Rejected]]:
    source = coco.CocoSource(reader="coco", annotations=str(path))
    items = coco.read(source, limits=ReadLimits(9, 100, ("_background_",)))
    return parted(list(items))


def read_labelme(path: Path, alone: Path) -> tuple[list[SourcePicture], list[Rejected]]:
    """`path` and the picture it speaks of, read from a folder of their own."""
    alone.mkdir()
    for file in (path, path.parent / "2011_000006.jpg"):
        (alone / file.name).write_bytes(file.read_bytes())
    source = labelme.LabelmeSource(reader="labelme", annotations=str(alone))
    items = labelme.read(source, limits=ReadLimits(9, 100, ()))
    return parted(list(items))


def parted(items: list[SourcePicture | Rejected]) -> tuple[list[SourcePicture], list[Rejected]]:
    pictures = [item for item in items if isinstance(item, SourcePicture)]
    return pictures, [item for item in items if isinstance(item, Rejected)]


def test_the_tables_speak_of_every_file_as_the_manifest_does(bad_inputs: Path) -> None:
    manifest = json.loads((bad_inputs / "manifest.json").read_text())
    tables = {
        "images": REFUSED_PICTURES,
        "masks": REFUSED_MASKS,
        "coco": REFUSED_COCO,
        "labelme": REFUSED_LABELME,
        "prist": REFUSED_PRIST,
    }
    refused = {f"{folder}/{name}" for folder, table in tables.items() for name in table}
    assert refused == {entry["file"] for entry in manifest if entry["usable"] == "no"}
    sound = {*READ_PICTURES, "masks/mask_good.png", "masks/mask_lossy.jpg", "masks/mask_all_zero.png"}
    sound |= {f"coco/{name}" for name in READ_COCO} | {f"labelme/{name}" for name in READ_LABELME}
    sound |= {f"prist/{name}" for name in READ_PRIST}
    assert sound == {entry["file"] for entry in manifest if entry["usable"] != "no"}


@pytest.mark.parametrize("name", REFUSED_PICTURES)
def test_a_broken_picture_is_refused(bad_inputs: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        open_picture(bad_inputs / "images" / name, max_megapixels=MAX_MEGAPIXELS)
    assert REFUSED_PICTURES[name] in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", READ_PICTURES)
def test_an_odd_picture_is_read_upright_and_rgb(bad_inputs: Path, name: str) -> None:
    picture = open_picture(bad_inputs / name, max_megapixels=MAX_MEGAPIXELS)
    assert (picture.mode, picture.size) == ("RGB", READ_PICTURES[name])


@pytest.mark.parametrize("name", REFUSED_MASKS)
def test_a_wrong_mask_is_refused(bad_inputs: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        read_mask(bad_inputs / "masks" / name, num_classes=NUM_CAMVID_CLASSES)
    assert REFUSED_MASKS[name] in str(caught.value)


def read_mask(path: Path, *, num_classes: int) -> np.ndarray:
    return read_mask_file(path, size=MASK_SIZE, num_classes=num_classes, max_megapixels=MAX_MEGAPIXELS)


def test_sound_masks_are_read_also_when_all_zero(bad_inputs: Path) -> None:
    good = read_mask(bad_inputs / "masks" / "mask_good.png", num_classes=NUM_CAMVID_CLASSES)
    empty = read_mask(bad_inputs / "masks" / "mask_all_zero.png", num_classes=NUM_CAMVID_CLASSES)
    assert good.shape == empty.shape == MASK_SIZE
    assert (good.max(), empty.max()) == (11, 0)


def test_a_lossy_mask_is_cut_with_a_warning(bad_inputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        mask = read_mask(bad_inputs / "masks" / "mask_lossy.jpg", num_classes=2)
    true_mask = read_mask(bad_inputs / "masks" / "mask_good.png", num_classes=NUM_CAMVID_CLASSES)
    agreement = max(float(((true_mask == index) == mask).mean()) for index in range(NUM_CAMVID_CLASSES))
    assert agreement > 0.995
    assert "lossy_mask" in caplog.text


def test_a_lossy_mask_of_many_classes_is_refused(bad_inputs: Path) -> None:
    with pytest.raises(DataError, match="JPEG"):
        read_mask(bad_inputs / "masks" / "mask_lossy.jpg", num_classes=NUM_CAMVID_CLASSES)


@pytest.mark.parametrize("name", REFUSED_COCO)
def test_wrong_coco_is_refused(bad_inputs: Path, name: str) -> None:
    path = bad_inputs / "coco" / name
    if name in ("missing_annotations_key.json", "top_level_list.json"):
        with pytest.raises(DataError) as caught:
            read_coco(path)
        assert REFUSED_COCO[name] in str(caught.value)
        return
    pictures, rejected = read_coco(path)
    assert [REFUSED_COCO[name] in item.reason for item in rejected] == [True]
    num_left = 7 if name == "duplicate_ids.json" else 6
    expected = [] if name in COCO_WITHOUT_PICTURE else [num_left]
    assert [len(picture.regions) for picture in pictures] == expected


@pytest.mark.parametrize("name", READ_COCO)
def test_odd_coco_is_read(bad_inputs: Path, name: str) -> None:
    pictures, rejected = read_coco(bad_inputs / "coco" / name)
    assert ([len(picture.regions) for picture in pictures], rejected) == ([7], [])


def test_a_polygon_far_outside_is_cut_at_the_edges(bad_inputs: Path) -> None:
    (picture,), _ = read_coco(bad_inputs / "coco" / "out_of_bounds_polygon.json")
    assert picture.regions[0].mask
    assert masks.area_px(picture.regions[0].mask) == 512 * 512


@pytest.mark.parametrize("name", REFUSED_LABELME)
def test_wrong_labelme_is_refused(bad_inputs: Path, tmp_path: Path, name: str) -> None:
    _, rejected = read_labelme(bad_inputs / "labelme" / name, tmp_path / "alone")
    assert rejected
    assert all(REFUSED_LABELME[name] in item.reason for item in rejected)
    assert all(name in item.where for item in rejected)


@pytest.mark.parametrize("name", READ_LABELME)
def test_odd_labelme_is_read(bad_inputs: Path, tmp_path: Path, name: str) -> None:
    pictures, rejected = read_labelme(bad_inputs / "labelme" / name, tmp_path / "alone")
    assert ([len(picture.regions) for picture in pictures], rejected) == ([READ_LABELME[name]], [])
    assert pictures[0].pixels.size == (500, 375)


def test_windows_1252_labels_keep_their_accents(bad_inputs: Path, tmp_path: Path) -> None:
    (picture,), _ = read_labelme(bad_inputs / "labelme" / "non_utf8_cp1252.json", tmp_path / "alone")
    assert picture.regions[0].category == "fauteuil d’été"


@pytest.mark.parametrize("name", REFUSED_PRIST)
def test_wrong_prist_records_are_refused_and_the_others_read(bad_inputs: Path, name: str) -> None:
    items = list(read_prist(bad_inputs / "prist" / name))
    rejected = [item for item in items if isinstance(item, Rejected)]
    assert [REFUSED_PRIST[name] in item.reason for item in rejected] == [True]
    assert len(items) == 3
    assert "record 1" in rejected[0].where


@pytest.mark.parametrize("name", READ_PRIST)
def test_odd_prist_is_read(bad_inputs: Path, name: str) -> None:
    items = list(read_prist(bad_inputs / "prist" / name))
    records = [item for item in items if isinstance(item, PristRecord)]
    assert len(records) == len(items) == 3
    longest = max(len(turn.question) for item in records for turn in item.dialogue.turns)
    assert (longest > 100_000) == (name == "very_long_turn.json")
