"""Files in COCO's instances form of any size: indexed in one pass, then read picture by picture.

What LVIS, PACO, COCO panoptic and the JSON form of PASCAL-Part share; how categories are named and what a region holds
is theirs.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from miras.dialogue.records import Region, Rejected, Rle
from miras.errors import DataError
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, RejectedRegion, rejection
from miras.sources.coco import PICTURE_FOLDERS, check_size, field_of, label_of, segmentation_mask
from miras.sources.json_elements import element_at, walk
from miras.sources.limits import ReadLimits
from miras.sources.pictures import (
    FilePicture,
    ImageIds,
    UprightPicture,
    find_picture,
    load_picture,
    picture_folder,
    printable,
)

log = logging.getLogger(__name__)
Category = TypeVar("Category")

LISTS = ("images", "annotations", "categories")
NO_IMAGE = -1


@dataclass
class _Places:
    """Where elements lie in the file, and which picture each belongs to: 24 bytes an element."""

    owner: array[int] = field(default_factory=lambda: array("q"))
    start: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("q"))

    def add(self, owner: int, start: int, length: int) -> None:
        self.owner.append(owner)
        self.start.append(start)
        self.length.append(length)

    def __len__(self) -> int:
        return len(self.owner)


@dataclass(frozen=True)
class Instances:
    """A file's categories, and where its pictures and annotations lie."""

    path: Path
    categories: list[Any]
    """Records as they stand."""
    other: dict[str, Any]
    """Whatever else the file holds beside images, annotations and categories (info, licenses, attributes)."""
    images: _Places
    annotations: _Places
    order: np.ndarray
    """int64 (number of annotations,): annotations sorted by the picture they belong to."""
    first: np.ndarray
    """int64 (number of image ids + 1,): where in `order` the annotations of each picture begin."""


@dataclass(frozen=True)
class OpenPicture:
    """A picture that was found and decoded, with its annotations as they stand in the file."""

    where: str
    image_id: str
    record: dict[str, Any]
    picture: UprightPicture
    annotations: list[Any]
    licence: str

    @property
    def origin(self) -> str:
        return printable(self.record.get("file_name") or self.record.get("coco_url"))

    def with_regions(
        self, found: Iterable[Region | Rejected], *, absent: Sequence[str] = ()
    ) -> Iterator[FilePicture | Rejected]:
        """What a reader yields: what of the picture could not be read, then the picture with its regions."""
        regions: list[Region] = []
        for item in found:
            if isinstance(item, Rejected):
                yield item
            else:
                regions.append(item)
        yield FilePicture.of(
            self.picture,
            image_id=self.image_id,
            origin=self.origin,
            regions=regions,
            licence=self.licence,
            absent=absent,
        )


@dataclass(frozen=True)
class NamedCategory:
    """What the regions of a category have in common."""

    name: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Outlined:
    """An annotation whose category and mask were read."""

    where: str
    record: dict[str, Any]
    category_id: Any
    mask: Rle


def index(path: Path) -> Instances:
    """The places of all pictures and annotations of a file, in one pass.

    Raises:
        DataError: the file is missing, not JSON, or has no list of images, annotations or categories.
    """
    images, annotations = _Places(), _Places()
    categories: list[Any] = []
    other: dict[str, Any] = {}
    numbers: dict[Any, int] = {}
    found: set[str] = set()
    for element in progress(walk(path, lists=LISTS), total=None, name=f"indexing {path.name}", unit="records"):
        found.add(element.member)
        if element.member == "images":
            images.add(_number(element.value, "id", numbers), element.offset, element.length)
        elif element.member == "annotations":
            annotations.add(_number(element.value, "image_id", numbers), element.offset, element.length)
        elif element.member == "categories":
            categories.append(element.value)
        else:
            other[element.member] = element.value
    _check_members(path, found)
    owner = np.frombuffer(annotations.owner, dtype=np.int64) if len(annotations) else np.zeros(0, dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    first = np.searchsorted(owner[order], np.arange(len(numbers) + 1))
    return Instances(path, categories, other, images, annotations, order, first)


def _number(record: Any, key: str, numbers: dict[Any, int]) -> int:
    value = record.get(key) if isinstance(record, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | str):
        return NO_IMAGE
    return numbers.setdefault(value, len(numbers))


def _check_members(path: Path, found: set[str]) -> None:
    for name in LISTS:
        if name not in found:
            raise DataError(
                f'{path}: nothing under "{name}"; COCO instances are an object with lists of images, annotations '
                "and categories. Export it as COCO instances, with masks."
            )


def picture_folders(pictures: str, *, annotations: Path) -> list[Path]:
    """Where to look for pictures: in the named folder, or ("") beside the annotation file.

    Raises:
        DataError: there is no such folder.
    """
    folder = picture_folder(pictures)
    return [folder] if folder else [annotations.parent / name for name in PICTURE_FOLDERS]


def open_pictures(
    instances: Instances,
    *,
    folders: Sequence[Path],
    limits: ReadLimits,
    file_names: Callable[[dict[str, Any]], Sequence[object]],
) -> Iterator[OpenPicture | Rejected]:
    """The pictures in the file's order, each decoded with its annotations; those of no picture are reported last.

    Args:
        instances: the index.
        folders: where to look for pictures.
        limits: size limit and number for the progress bar.
        file_names: names a picture's file may have, by its record; the first that exists is taken.
    """
    licences = _licences(instances.other.get("licenses"))
    ids = ImageIds()
    seen: set[int] = set()
    total = min(len(instances.images), limits.max_pictures)
    with instances.path.open("rb") as file:
        numbers = progress(range(len(instances.images)), total=total, name="reading pictures", unit="pictures")
        for number in numbers:
            owner = instances.images.owner[number]
            record = _element(file, instances.images, number)
            where = f"{instances.path}: image {label_of(record)}"
            try:
                field_of(record, "id")
                if owner in seen:
                    raise DataError("an earlier picture has the same id")
                seen.add(owner)
                picture = _load(record, instances, folders, limits, file_names)
            except DataError as error:
                yield rejection(RejectedPicture, where, error)
                continue
            annotations = [_element(file, instances.annotations, place) for place in _belonging(instances, owner)]
            name = printable(record.get("file_name") or record.get("coco_url"))
            licence = licences.get(repr(record.get("license")), "")
            yield OpenPicture(where, ids.allot(name), record, picture, annotations, licence)
        yield from _strays(instances, file)


def _element(file: BinaryIO, places: _Places, number: int) -> Any:
    return element_at(file, places.start[number], places.length[number])


def _belonging(instances: Instances, owner: int) -> list[int]:
    start, end = instances.first[owner], instances.first[owner + 1]
    return [int(place) for place in instances.order[start:end]]


def _load(
    record: dict[str, Any],
    instances: Instances,
    folders: Sequence[Path],
    limits: ReadLimits,
    file_names: Callable[[dict[str, Any]], Sequence[object]],
) -> UprightPicture:
    path = _find(file_names(record), folders=folders, root=instances.path.parent)
    picture = load_picture(path, max_megapixels=limits.max_megapixels)
    check_size(picture, height=record.get("height"), width=record.get("width"), name=path.name)
    return picture


def _find(names: Sequence[object], *, folders: Sequence[Path], root: Path) -> Path:
    problem = DataError("the picture's record has no file_name and no coco_url")
    for name in names:
        try:
            return find_picture(name, folders=folders, root=root)
        except DataError as error:
            problem = error
    raise problem


def _licences(records: object) -> dict[str, str]:
    """Address, or name, of each licence a file lists, by its id as `repr` writes it."""
    listed = records if isinstance(records, list) else []
    stated = [item for item in listed if isinstance(item, dict)]
    return {repr(item.get("id")): printable(item.get("url") or item.get("name") or "") for item in stated}


def _strays(instances: Instances, file: BinaryIO) -> Iterator[Rejected]:
    with_picture = set(instances.images.owner) - {NO_IMAGE}
    for number, owner in enumerate(instances.annotations.owner):
        if owner in with_picture:
            continue
        where = f"{instances.path}: annotations[{number}]"
        try:
            image_id = field_of(_element(file, instances.annotations, number), "image_id")
            reason: object = f"image id {image_id!r} is the id of no picture in the file"
        except DataError as error:
            reason = error
        yield rejection(RejectedRegion, where, reason)


def read_categories(
    path: Path, records: Sequence[Any], read: Callable[[Mapping[str, Any], str], Category]
) -> dict[Any, Category]:
    """The categories of a file by their id.

    Args:
        path: of the file, for messages.
        records: as they stand in the file.
        read: makes a category of its record and its name; what it refuses with a `DataError` stops the reading.

    Raises:
        DataError: a record has no id or name, or an earlier one the same id.
    """
    categories: dict[Any, Category] = {}
    for number, record in enumerate(records):
        try:
            key, raw = field_of(record, "id"), field_of(record, "name")
            if not isinstance(raw, str):
                raise DataError(f"expected a name, found {raw!r}")
            if key in categories:
                raise DataError(f"an earlier category has the same id {key}")
            categories[key] = read(record, raw)
        except DataError as error:
            raise DataError(f"{path}: categories[{number}]: {error}. Correct it in the file.") from None
    return categories


def plain_regions(item: OpenPicture, categories: Mapping[Any, NamedCategory | None]) -> Iterator[Region | Rejected]:
    """A region without phrase or parent for each annotation of a picture; see `outlined`."""
    number = 0
    for found in outlined(item, categories):
        if isinstance(found, Rejected):
            yield found
            continue
        category = categories[found.category_id]
        assert category is not None  # `outlined` leaves them out
        yield Region(
            region_id=f"{item.image_id}-r{number}",
            image_id=item.image_id,
            phrase="",
            mask=found.mask,
            category=category.name,
            attributes=dict(category.attributes),
        )
        number += 1


def outlined(item: OpenPicture, categories: Mapping[Any, object]) -> Iterator[Outlined | Rejected]:
    """The annotations of a picture with their masks, and those that could not be read.

    Args:
        item: the picture.
        categories: by category id; an annotation whose category is None is left out without a word.
    """
    seen: set[Any] = set()
    size = {"height": item.picture.pixels.height, "width": item.picture.pixels.width}
    for annotation in item.annotations:
        where = f"{item.where}, annotation {label_of(annotation)}"
        try:
            annotation_id = field_of(annotation, "id")
            if annotation_id in seen:
                raise DataError(f"an earlier annotation has the same id {annotation_id}")
            seen.add(annotation_id)
            category_id = field_of(annotation, "category_id")
            if category_id not in categories:
                raise DataError(f"category id {category_id!r} is not among the categories")
            if categories[category_id] is None:
                continue
            mask = segmentation_mask(annotation.get("segmentation"), **size)
        except DataError as error:
            yield rejection(RejectedRegion, where, error)
            continue
        yield Outlined(where, annotation, category_id, mask)
