"""The reader of the full ADE20K: instances, parts, parts of parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from miras.dialogue import masks
from miras.errors import DataError
from miras.sources.ade20k import Ade20kSource, read
from miras.sources.annotations import RejectedPicture, RejectedRegion
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

CAR, WHEEL, RIM = 401, 3035, 2122
NAMES = {CAR: "car, auto, automobile", WHEEL: "wheel", RIM: "rim"}


def thing(number: int, kind: int, box: tuple[int, int, int, int], *, level: int = 0, **changes: Any) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    record = {"id": number, "name": NAMES[kind], "name_ndx": kind, "raw_name": NAMES[kind].split(",")[0]}
    record |= {"polygon": {"x": [x0, x1, x1, x0], "y": [y0, y0, y1, y1]}, "occluded": [], "crop": "0"}
    record |= {"parts": {"hasparts": [], "ispartof": changes.pop("of", []), "part_level": level}, "attributes": []}
    return record | changes


def coded(*areas: tuple[int, int, np.ndarray]) -> Image.Image:
    """A PNG of (class, blue, mask) as ADE20K codes them."""
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    for kind, blue, mask in areas:
        picture[mask] = (kind // 256 * 10, kind % 256, blue)
    return Image.fromarray(picture)


def write(folder: Path, objects: list[Any], levels: dict[str, Image.Image], *, name: str = "x") -> Ade20kSource:
    save_picture(folder / f"{name}.jpg")
    write_json(folder / f"{name}.json", {"annotation": {"object": objects}})
    for suffix, image in levels.items():
        image.save(folder / f"{name}_{suffix}.png")
    return Ade20kSource(reader="ade20k", folder=str(folder))


FRONT, BEHIND, HIDDEN = block(2, 2, 12, 12), block(8, 1, 24, 13), block(14, 4, 17, 7)
SEEN_BEHIND = BEHIND & ~FRONT


def test_an_instance_is_what_is_visible_of_it(tmp_path: Path) -> None:
    objects = [
        thing(0, CAR, (8, 1, 24, 13), occluded="yes"),
        thing(1, CAR, (2, 2, 12, 12), crop="1", attributes=["red", "small"]),
    ]
    source = write(tmp_path, objects, {"seg": coded((CAR, 100, FRONT), (CAR, 255, SEEN_BEHIND))})
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert (pixels(picture.regions[0]) == SEEN_BEHIND).all()
    assert (pixels(picture.regions[1]) == FRONT).all()
    assert [region.attributes for region in picture.regions] == [
        {"occluded": "yes", "synonyms": "auto, automobile"},
        {"cropped": "yes", "synonyms": "auto, automobile", "described_as": "red, small"},
    ]


def test_parts_and_their_parts_are_children(tmp_path: Path) -> None:
    objects = [
        thing(7, RIM, (4, 4, 6, 6), level=2, of=5),
        thing(5, WHEEL, (3, 3, 8, 8), level=1, of=2),
        thing(2, CAR, (2, 2, 12, 12), raw_name="cars"),
    ]
    levels = {"seg": coded((CAR, 255, FRONT)), "parts_1": coded((WHEEL, 255, block(3, 3, 8, 8)))}
    levels["parts_2"] = coded((RIM, 255, block(4, 4, 6, 6)))
    source = write(tmp_path, objects, levels)
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert categories(picture.regions) == ["group of cars", "wheel", "rim"]
    assert [region.parent_id for region in picture.regions] == [None, "x-r0", "x-r1"]
    (picture,), rejected = split(read(source, limits=ignoring("wheel")))
    assert (categories(picture.regions), rejected) == (["group of cars"], [])


def test_a_class_has_one_name_in_a_picture_whatever_each_annotator_wrote(tmp_path: Path) -> None:
    words = ("auto", "car", "automobiles")
    boxes = ((0, 0, 5, 5), (10, 0, 15, 5), (20, 0, 25, 5))
    objects = [thing(n, CAR, box, raw_name=word) for n, (word, box) in enumerate(zip(words, boxes, strict=True))]
    seen = coded(*((CAR, 10 + n, block(*box)) for n, box in enumerate(boxes)))
    (picture,), _ = split(read(write(tmp_path, objects, {"seg": seen}), limits=LIMITS))
    assert categories(picture.regions) == ["auto", "auto", "group of autos"]
    assert {region.attributes["synonyms"] for region in picture.regions} == {"car, automobile"}


def test_what_cannot_be_read_is_rejected_with_its_parts(tmp_path: Path) -> None:
    objects = [
        thing(0, CAR, (2, 2, 12, 12)),
        thing(0, CAR, (2, 2, 12, 12)),  # the same id
        thing(1, CAR, (14, 4, 17, 7)),  # nowhere visible
        thing(2, WHEEL, (14, 4, 15, 6), level=1, of=1),
        thing(3, CAR, (2, 2, 12, 12), polygon={"x": [1, 2], "y": [1]}),
        thing(4, CAR, (2, 2, 12, 12), name=None),
        "text",
    ]
    levels = {"seg": coded((CAR, 255, FRONT)), "parts_1": coded((WHEEL, 255, block(14, 4, 15, 6)))}
    (picture,), rejected = split(read(write(tmp_path, objects, levels), limits=LIMITS))
    assert categories(picture.regions) == ["car"]
    assert [type(item) for item in rejected] == [RejectedRegion] * 6


def test_a_picture_without_its_files_is_rejected_alone(tmp_path: Path) -> None:
    good = [thing(0, CAR, (2, 2, 12, 12))]
    source = write(tmp_path, good, {"seg": coded((CAR, 255, FRONT))}, name="good")
    write(tmp_path, good, {}, name="no_seg")
    write(tmp_path, good, {"seg": Image.new("RGB", (3, 3))}, name="other_size")
    write_json(tmp_path / "no_objects.json", {"annotation": {}})
    pictures, rejected = split(read(source, limits=LIMITS))
    assert [picture.image_id for picture in pictures] == ["good"]
    assert [type(item) for item in rejected] == [RejectedPicture] * 3


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \*\.json"):
        list(read(Ade20kSource(reader="ade20k", folder=str(tmp_path)), limits=LIMITS))


def test_the_pack_gives_the_masks_of_its_instance_files(shared_data: Path) -> None:
    """Each object has a PNG of its own there, which the reader does not use."""
    source = Ade20kSource(reader="ade20k", folder=str(shared_data / "ade20k_full"))
    limits = LIMITS.__class__(max_pictures=9, max_megapixels=9, ignore_categories=())
    pictures, rejected = split(read(source, limits=limits))
    assert rejected == []
    folder = next((shared_data / "ade20k_full").rglob("ADE_train_00016900.json")).parent
    objects = json.loads((folder / "ADE_train_00016900.json").read_text())["annotation"]["object"]
    picture = next(item for item in pictures if item.image_id == "ADE_train_00016900")
    expected = sorted(
        (masks.encode(np.asarray(Image.open(folder / item["instance_mask"])) == 255).counts, item["raw_name"])
        for item in objects
    )
    found = sorted((region.mask.counts, region.category) for region in picture.regions if region.mask)
    assert [counts for counts, _ in found] == [counts for counts, _ in expected]
    assert sum(region.parent_id is not None for region in picture.regions) == 3
