"""Reader of Visual Genome with masks: described regions, or objects and the relationships between them.

Two forms (reference facts 3.3 and 4.5): a list of {image_path, caption, mask}, where mask is a picture file; and Visual
Genome's relationships.json with a file of run-length codes by object id. Both are indexed once and read picture by
picture.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import Field, model_validator

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected, Relation, Rle
from miras.errors import DataError
from miras.progress import progress
from miras.sources import instances
from miras.sources.annotations import RejectedPicture, RejectedRegion, category_name, covering, rejection
from miras.sources.json_elements import element_at, walk
from miras.sources.limits import ReadLimits
from miras.sources.pictures import (
    FilePicture,
    ImageIds,
    UprightPicture,
    decode_image,
    find_picture,
    load_picture,
    picture_folder,
    printable,
    read_content,
)

PICTURE_FOLDERS = ("VG_100K", "VG_100K_2")
HALF_OF_255 = 128
MAX_PHRASE_CHARACTERS = 300  # assumed: Visual Genome's longest descriptions are below


class RejectedRelation(Rejected):
    """A relationship left out; its picture and objects stay."""


class VisualGenomeSource(Section):
    """Visual Genome in one of two forms."""

    reader: Literal["visual_genome"]
    annotations: str = Field(min_length=1)
    """captions: train_new.json, a list of {image_path, caption, mask}; relationships: relationships.json."""
    form: Literal["captions", "relationships"]
    """What `annotations` holds."""
    masks: str
    """relationships: the file of run-length codes by object id (vg_masks_train_new.json); captions: the folder that
    mask paths start from, "" for that of the annotations."""
    pictures: str = ""
    """Folder that holds VG_100K/ and VG_100K_2/, or that image paths start from; "": beside the annotations."""

    @model_validator(mode="after")
    def _relationships_have_masks(self) -> VisualGenomeSource:
        if self.form == "relationships" and not self.masks:
            raise ValueError("form relationships needs `masks`: the file of run-length codes by object id")
        return self


@dataclass
class _Grouped:
    """Places of a file's records by the picture they speak of, in order of first mention."""

    groups: dict[str, array[int]] = field(default_factory=dict)
    """start, length, start, length, ..."""
    strays: list[Rejected] = field(default_factory=list)

    def add(self, key: str, start: int, length: int) -> None:
        self.groups.setdefault(key, array("q")).extend((start, length))

    def records(self, key: str, file: BinaryIO) -> list[Any]:
        places = self.groups[key]
        return [element_at(file, *place) for place in zip(places[::2], places[1::2], strict=True)]


@dataclass(frozen=True)
class _Opened:
    """A picture that was found, with its records."""

    where: str
    image_id: str
    origin: str
    picture: UprightPicture
    records: list[Any]

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.pixels.height, self.picture.pixels.width

    def region(self, number: int, mask: Rle, *, phrase: str, category: str) -> Region:
        return Region(
            region_id=f"{self.image_id}-r{number}",
            image_id=self.image_id,
            phrase=phrase,
            mask=mask,
            category=category,
        )

    def with_regions(self, regions: Sequence[Region]) -> FilePicture:
        return FilePicture.of(self.picture, image_id=self.image_id, origin=self.origin, regions=regions)


def read(source: VisualGenomeSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their regions.

    captions: a region for each record, whose phrase is the caption; its category is the caption, too, since no class
    is stated. relationships: a region for each object of a relationship that has a mask, without phrase;
    `Region.relations` says how they stand to each other.

    Raises:
        DataError: a file is missing, or is not of its form.
    """
    if source.form == "captions":
        return _read_captions(source, limits)
    return _read_relationships(source, limits)


def _opened(
    grouped: _Grouped, source: VisualGenomeSource, names: Mapping[str, str], limits: ReadLimits
) -> Iterator[_Opened | Rejected]:
    """Each picture with its records, then the records without picture."""
    path = Path(source.annotations)
    base = picture_folder(source.pictures) or path.parent
    folders = [base / name for name in ("", *PICTURE_FOLDERS)]
    ids = ImageIds()
    total = min(len(grouped.groups), limits.max_pictures)
    with path.open("rb") as file:
        for key in progress(grouped.groups, total=total, name="reading Visual Genome", unit="pictures"):
            where = f"{path}: picture {printable(key)}"
            try:
                found = find_picture(names[key], folders=folders, root=path.parent)
                picture = load_picture(found, max_megapixels=limits.max_megapixels)
            except DataError as error:
                yield rejection(RejectedPicture, where, error)
                continue
            origin = printable(names[key])
            yield _Opened(where, ids.allot(origin), origin, picture, grouped.records(key, file))
    yield from grouped.strays


def _read_captions(source: VisualGenomeSource, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    path = Path(source.annotations)
    folder = Path(source.masks) if source.masks else path.parent
    grouped = _Grouped()
    for number, element in enumerate(walk(path)):
        image_path = element.value.get("image_path") if isinstance(element.value, dict) else None
        if element.member or not isinstance(image_path, str):
            reason = 'no text under "image_path"; expected a list of {image_path, caption, mask}'
            grouped.strays.append(rejection(RejectedRegion, f"{path}: record {number}", reason))
        else:
            grouped.add(image_path, element.offset, element.length)
    names = {key: key for key in grouped.groups}
    for item in _opened(grouped, source, names, limits):
        if isinstance(item, Rejected):
            yield item
            continue
        regions: list[Region] = []
        for record in item.records:
            try:
                phrase = _phrase(record.get("caption"))
                mask = _mask_file(record.get("mask"), folder, item.size, limits)
            except DataError as error:
                yield rejection(RejectedRegion, f"{item.where}, mask {record.get('mask')!r}", error)
                continue
            regions.append(item.region(len(regions), mask, phrase=phrase, category=phrase))
        yield item.with_regions(regions)


def _phrase(caption: object) -> str:
    """A caption as a phrase: one line, without article and full stop."""
    if not isinstance(caption, str):
        raise DataError(f"expected text under caption, found {caption!r}")
    words = " ".join(caption.split()).rstrip(".")
    for article in ("a ", "an ", "the "):
        if words.lower().startswith(article):
            words = words[len(article) :]
            break
    if len(words) > MAX_PHRASE_CHARACTERS:
        raise DataError(f"a caption of {len(words)} characters; at most {MAX_PHRASE_CHARACTERS} make a phrase")
    category_name(words[:100])  # refuses what is empty, holds a marker or is not valid Unicode
    category_name(words[-100:])
    return words


def _mask_file(name: object, folder: Path, size: tuple[int, int], limits: ReadLimits) -> Rle:
    path = find_picture(name, folders=[folder], root=folder)
    image = decode_image(read_content(path), where=printable(path), max_megapixels=limits.max_megapixels)
    if (image.height, image.width) != size:
        raise DataError(f"{printable(path)}: {image.width} x {image.height}; the picture has {size[1]} x {size[0]}")
    return covering(masks.encode(np.asarray(image.convert("L")) >= HALF_OF_255))


def _read_relationships(source: VisualGenomeSource, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    path, masks_path = Path(source.annotations), Path(source.masks)
    mask_places = _mask_places(masks_path)
    grouped = _Grouped()
    for number, element in enumerate(walk(path)):
        record = element.value
        is_sound = isinstance(record, dict) and isinstance(record.get("relationships"), list)
        if element.member or not is_sound or type(record.get("image_id")) is not int:
            reason = "expected {image_id, relationships} with a number and a list"
            grouped.strays.append(rejection(RejectedPicture, f"{path}: record {number}", reason))
        else:
            grouped.add(str(record["image_id"]), element.offset, element.length)
    names = {key: f"{key}.jpg" for key in grouped.groups}
    with masks_path.open("rb") as mask_file:
        for item in _opened(grouped, source, names, limits):
            if isinstance(item, Rejected):
                yield item
                continue
            relations = _Relations(item, mask_places, mask_file)
            for record in item.records:
                for number, relationship in enumerate(record["relationships"]):
                    try:
                        relations.add(relationship)
                    except DataError as error:
                        yield rejection(RejectedRelation, f"{item.where}, relationship {number}", error)
            yield item.with_regions(list(relations.regions.values()))


def _mask_places(path: Path) -> dict[str, tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    for element in progress(walk(path), name=f"indexing {path.name}", unit="masks"):
        if not element.member:
            raise DataError(f"{path}: expected an object with a run-length code for each object id, found a list.")
        places[element.member] = (element.offset, element.length)
    return places


class _Relations:
    """The relationships of one picture, and the objects that stand in them."""

    def __init__(self, item: _Opened, mask_places: Mapping[str, tuple[int, int]], mask_file: BinaryIO) -> None:
        self._item = item
        self._mask_places = mask_places
        self._mask_file = mask_file
        self.regions: dict[int, Region] = {}
        """By object id."""

    def add(self, relationship: Any) -> None:
        if not isinstance(relationship, dict):
            raise DataError(f"expected an object with keys, found {relationship!r}")
        predicate = category_name(relationship.get("predicate")).lower()
        subject = self._region(relationship.get("subject"))
        other = self._region(relationship.get("object"))
        relation = Relation(predicate=predicate, object_id=other.region_id)
        if relation not in subject.relations:
            key = relationship["subject"]["object_id"]
            self.regions[key] = subject.model_copy(update={"relations": (*subject.relations, relation)})

    def _region(self, thing: Any) -> Region:
        object_id = thing.get("object_id") if isinstance(thing, dict) else None
        if type(object_id) is not int:
            raise DataError(f"expected a subject and an object with an object_id, found {thing!r}")
        if object_id in self.regions:
            return self.regions[object_id]
        names = thing.get("names")
        name = category_name(thing.get("name") or (names[0] if isinstance(names, list) and names else None))
        place = self._mask_places.get(str(object_id))
        if place is None:
            raise DataError(f"there is no mask of object {object_id} ({name})")
        height, width = self._item.size
        mask = instances.segmentation_mask(element_at(self._mask_file, *place), height=height, width=width)
        self.regions[object_id] = self._item.region(len(self.regions), mask, phrase="", category=name)
        return self.regions[object_id]
