"""The Visual Genome reader: described regions, and objects in relationships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from miras.errors import DataError
from miras.sources.annotations import RejectedPicture, RejectedRegion
from miras.sources.visual_genome import RejectedRelation, VisualGenomeSource, read
from tests.unit.sources.region_files import HEIGHT, LIMITS, WIDTH, block, pixels, rle, save_picture, split, write_json


def captions(folder: Path, *records: Any) -> VisualGenomeSource:
    save_picture(folder / "VG_100K" / "1.jpg", shade=1)
    save_picture(folder / "VG_100K_2" / "2.jpg", shade=2)
    (folder / "masks").mkdir()
    for number in (1, 2):
        mask = block(number, 2, number + 5, 9).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    Image.new("L", (WIDTH, WIDTH)).save(folder / "masks" / "square.png")
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "masks" / "empty.png")
    path = write_json(folder / "train_new.json", list(records))
    return VisualGenomeSource(reader="visual_genome", annotations=str(path), form="captions", masks="", pictures="")


def described(picture: str, caption: object = "A dog by the door.", mask: object = "masks/1.png") -> dict[str, object]:
    return {"image_path": picture, "caption": caption, "mask": mask}


def test_captions_are_phrases_and_records_of_one_picture_come_together(tmp_path: Path) -> None:
    source = captions(
        tmp_path,
        described("VG_100K/1.jpg"),
        described("VG_100K_2/2.jpg", "the  red\ncar"),
        described("VG_100K/1.jpg", "sky", "masks/2.png"),
    )
    pictures, rejected = split(read(source, limits=LIMITS))
    assert rejected == []
    assert [[region.phrase for region in picture.regions] for picture in pictures] == [
        ["dog by the door", "sky"],
        ["red car"],
    ]
    assert (pixels(pictures[0].regions[1]) == block(2, 2, 7, 9)).all()


def test_wrong_descriptions_are_rejected_alone(tmp_path: Path) -> None:
    source = captions(
        tmp_path,
        described("VG_100K/1.jpg", None),
        described("VG_100K/1.jpg", " a . "),
        described("VG_100K/1.jpg", "it is [SEG]"),
        described("VG_100K/1.jpg", "x" * 400),
        described("VG_100K/1.jpg", mask="masks/gone.png"),
        described("VG_100K/1.jpg", mask="masks/square.png"),
        described("VG_100K/1.jpg", mask="masks/empty.png"),
        described("VG_100K/1.jpg"),
        described("VG_100K/gone.jpg"),
        {"caption": "no picture"},
        "text",
    )
    (picture,), rejected = split(read(source, limits=LIMITS))
    assert len(picture.regions) == 1
    kinds = [type(item) for item in rejected]
    assert kinds == [RejectedRegion] * 7 + [RejectedPicture] + [RejectedRegion] * 2


def thing(number: int, name: str = "cup") -> dict[str, Any]:
    return {"object_id": number, "name": name, "x": 0, "y": 0, "w": 1, "h": 1}


def related(subject: object, predicate: object, other: object) -> dict[str, object]:
    return {"subject": subject, "predicate": predicate, "object": other, "relationship_id": 1, "synsets": []}


def relationships(folder: Path, *records: Any) -> VisualGenomeSource:
    save_picture(folder / "VG_100K" / "1.jpg")
    codes = {str(number): rle(block(number, 2, number + 5, 9)) for number in range(1, 4)}
    codes["4"] = {"size": [1, 1], "counts": "01"}
    masks_path = write_json(folder / "vg_masks_train_new.json", codes)
    path = write_json(folder / "relationships.json", list(records))
    return VisualGenomeSource(
        reader="visual_genome", annotations=str(path), form="relationships", masks=str(masks_path), pictures=""
    )


def test_objects_are_regions_once_and_relations_join_them(tmp_path: Path) -> None:
    found = [
        related(thing(1), "ON", thing(2, "table")),
        related(thing(3, "spoon"), "next to", thing(1)),
        related(thing(1), "on", thing(2, "table")),
    ]
    (picture,), rejected = split(read(relationships(tmp_path, {"image_id": 1, "relationships": found}), limits=LIMITS))
    assert rejected == []
    assert [region.category for region in picture.regions] == ["cup", "table", "spoon"]
    assert (pixels(picture.regions[2]) == block(3, 2, 8, 9)).all()
    found = [(r.region_id, item.predicate, item.object_id) for r in picture.regions for item in r.relations]
    assert found == [
        ("1-r0", "on", "1-r1"),
        ("1-r2", "next to", "1-r0"),
    ]


def test_wrong_relationships_are_rejected_alone(tmp_path: Path) -> None:
    found = [
        related(thing(1), "", thing(2)),
        related(thing(1), "on", thing(99)),
        related(thing(4), "on", thing(2)),
        related(None, "on", thing(2)),
        "text",
        related(thing(1), "on", thing(2)),
    ]
    records = [{"image_id": 1, "relationships": found}, {"image_id": 7, "relationships": []}, {"image_id": "x"}]
    (picture,), rejected = split(read(relationships(tmp_path, *records), limits=LIMITS))
    assert [len(region.relations) for region in picture.regions] == [1, 0]
    assert [type(item) for item in rejected] == [RejectedRelation] * 5 + [RejectedPicture] * 2


def test_masks_must_be_named_and_be_an_object(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="needs `masks`"):
        VisualGenomeSource(reader="visual_genome", annotations="a", form="relationships", masks="", pictures="")
    source = relationships(tmp_path)
    write_json(Path(source.masks), [1])
    with pytest.raises(DataError, match="found a list"):
        list(read(source, limits=LIMITS))
