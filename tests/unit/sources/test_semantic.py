"""The reader of label pictures: each layout's values and names, pairing of files, and faults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miras.dialogue import masks
from miras.errors import DataError
from miras.sources.annotations import RejectedPicture
from miras.sources.semantic import SemanticSource, read
from tests.unit.sources.region_files import (
    HEIGHT,
    LIMITS,
    WIDTH,
    categories,
    ignoring,
    pixels,
    save_picture,
    split,
)


def values(*columns: int) -> np.ndarray:
    """A label (HEIGHT, WIDTH) of upright stripes of equal width."""
    stripes = np.repeat(np.array(columns, dtype=np.uint8), WIDTH // len(columns))
    return np.tile(stripes, (HEIGHT, 1))


def write(folder: Path, label: np.ndarray, *, names: str, layout: str, ending: str = ".png") -> SemanticSource:
    save_picture(folder / "pictures" / "town" / "a.jpg")
    (folder / "labels" / "town").mkdir(parents=True, exist_ok=True)
    Image.fromarray(label).save(folder / "labels" / "town" / f"a{ending}")
    (folder / "names").write_text(names, encoding="utf-8")
    return SemanticSource.model_validate(
        {
            "reader": "semantic",
            "layout": layout,
            "pictures": str(folder / "pictures"),
            "labels": str(folder / "labels"),
            "label_ending": ending,
            "names": str(folder / "names"),
        }
    )


COLOURS = np.array([(64, 128, 64), (0, 0, 0), (192, 0, 128)], dtype=np.uint8)[values(0, 1, 2)]
MAPILLARY = {
    "labels": [
        {"readable": "Bird", "evaluate": True},
        {"readable": "Road", "evaluate": True},
        {"readable": "Ego Vehicle", "evaluate": False},
    ]
}


@pytest.mark.parametrize(
    ("layout", "names", "label", "expected"),
    [
        ("ade20k", '["wall", "door"]', values(0, 1, 2), ["wall", "door"]),
        ("coco_stuff", "0: unlabeled\n1: person\n2: wall-brick\n3: sky", values(0, 1, 2, 255, 255), ["person", "sky"]),
        ("mapillary_v2", json.dumps(MAPILLARY), values(2, 1, 0), ["bird", "road"]),
        ("indices", "0\tSky\n1\tRoad\n11\tUnlabelled\n", values(11, 1, 0), ["Sky", "Road"]),
        ("indices", "0: null\n1: hair band\n2: hair band", values(0, 1, 2), ["hair band"]),
        ("colours", "64 128 64\tAnimal\n0 0 0\tVoid\n192 0 128\tArchway\n", COLOURS, ["Animal", "Archway"]),
        ("colours", "name,r,g,b\nAnimal, 64, 128, 64\nVoid,0,0,0\nArchway,192,0,128", COLOURS, ["Animal", "Archway"]),
        ("binary", "0: background\n1: defect", values(0, 120, 128, 250, 255), ["defect"]),
        ("binary", "0: background\n1: defect", values(0, 1), []),
    ],
)
def test_a_layout_gives_its_classes(
    tmp_path: Path, layout: str, names: str, label: np.ndarray, expected: list[str]
) -> None:
    (picture,), rejected = split(read(write(tmp_path, label, names=names, layout=layout), limits=LIMITS))
    assert rejected == []
    assert categories(picture.regions) == expected
    assert all(region.attributes == {"kind": "semantic"} for region in picture.regions)


def test_a_mask_is_the_whole_class_and_two_values_of_one_name_are_one(tmp_path: Path) -> None:
    source = write(tmp_path, values(1, 0, 2, 1, 3), names="0: null\n1: car\n2: car\n3: sky", layout="indices")
    (picture,), _ = split(read(source, limits=LIMITS))
    expected = np.isin(values(1, 0, 2, 1, 3), [1, 2])
    assert (pixels(picture.regions[0]) == expected).all()
    assert picture.origin == "town/a.jpg"


def test_ignored_classes_are_left_out_silently(tmp_path: Path) -> None:
    source = write(tmp_path, values(0, 1), names="0: sky\n1: car", layout="indices")
    (picture,), rejected = split(read(source, limits=ignoring("sky")))
    assert (categories(picture.regions), rejected) == (["car"], [])


def test_labels_may_lie_beside_their_pictures(tmp_path: Path) -> None:
    source = write(tmp_path, values(0, 1), names="0: sky\n1: car", layout="indices", ending="_L.png")
    shutil.copy(tmp_path / "labels" / "town" / "a_L.png", tmp_path / "pictures" / "town" / "a_L.png")
    source = source.model_copy(update={"labels": source.pictures})
    pictures, rejected = split(read(source, limits=LIMITS))
    assert (len(pictures), rejected) == (1, [])


def test_a_picture_or_label_without_partner_is_rejected(tmp_path: Path) -> None:
    source = write(tmp_path, values(0, 1), names="0: sky\n1: car", layout="indices")
    save_picture(tmp_path / "pictures" / "b.png")
    shutil.copy(tmp_path / "labels" / "town" / "a.png", tmp_path / "labels" / "c.png")
    pictures, rejected = split(read(source, limits=LIMITS))
    assert len(pictures) == 1
    assert ["no label b" in rejected[0].reason, "no picture c" in rejected[1].reason] == [True, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": "gone"}, "no such folder"),
        ({"pictures": "gone"}, "no such folder"),
        ({"names": "gone"}, "no such file"),
        ({"label_ending": ".txt"}, "ends in none of"),
        ({"label_ending": "_x.png"}, "no file ends in"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    source = write(tmp_path, values(0, 1), names="0: sky\n1: car", layout="indices")
    with pytest.raises(DataError, match=reason):
        list(read(source.model_copy(update=changes), limits=LIMITS))


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("ade20k", "{}"),
        ("mapillary_v2", "[]"),
        ("indices", "sky"),
        ("indices", "0: sky\n0: car"),
        ("indices", "0: a [SEG]"),
        ("colours", "64 128 sky"),
        ("colours", "0 0 0 a\n0 0 0 b"),
    ],
)
def test_malformed_names_are_refused(tmp_path: Path, layout: str, names: str) -> None:
    with pytest.raises(DataError, match="names"):
        list(read(write(tmp_path, values(0, 1), names=names, layout=layout), limits=LIMITS))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mask_wrong_size.png", "size 240 x 180"),
        ("mask_transposed.png", "axes are swapped"),
        ("mask_unknown_class.png", "class 37 has no name"),
        ("mask_colour_not_index.png", "colours (mode RGB)"),
        ("mask_lossy.jpg", "does not keep classes"),
        ("mask_good.png", None),
        ("mask_all_zero.png", None),
    ],
)
def test_the_masks_of_the_pack(tmp_path: Path, shared_data: Path, name: str, reason: str | None) -> None:
    folder = shared_data / "bad_inputs" / "masks"
    for kind, path in (("pictures", folder / "image.jpg"), ("labels", folder / name)):
        (tmp_path / kind).mkdir()
        shutil.copy(path, tmp_path / kind / f"a{path.suffix}")
    source = SemanticSource(
        reader="semantic",
        layout="indices",
        pictures=str(tmp_path / "pictures"),
        labels=str(tmp_path / "labels"),
        label_ending=Path(name).suffix,
        names=str(shared_data / "camvid" / "classes.txt"),
    )
    pictures, rejected = split(read(source, limits=LIMITS))
    if reason is None:
        assert (len(pictures), rejected) == (1, [])
    else:
        assert [type(item) for item in rejected] == [RejectedPicture]
        assert reason in rejected[0].reason


def test_camvid_areas_are_counts_of_its_values(shared_data: Path) -> None:
    folder = shared_data / "camvid"
    source = SemanticSource(
        reader="semantic",
        layout="indices",
        pictures=str(folder / "test"),
        labels=str(folder / "testannot"),
        label_ending=".png",
        names=str(folder / "classes.txt"),
    )
    picture = next(item for item in read(source, limits=LIMITS))
    assert not isinstance(picture, RejectedPicture)
    label = np.asarray(Image.open(folder / "testannot" / f"{picture.image_id}.png"))
    counts = [int((label == value).sum()) for value in range(11)]
    assert [masks.area_px(region.mask) for region in picture.regions if region.mask] == [n for n in counts if n]
