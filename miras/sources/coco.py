"""Reader of COCO instances files: polygons, run-length codes, and the usual odd forms of both.

The file is read whole (it is one JSON value); of the pictures one at a time is in memory.
Key points, captions and panoptic files are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pycocotools import mask as coco_mask
from pydantic import Field

from miras.config import Section
from miras.dialogue.records import Region, Rejected, Rle
from miras.errors import DataError
from miras.generate.language import plural
from miras.progress import progress
from miras.sources.annotations import (
    RejectedPicture,
    RejectedRegion,
    category_name,
    covering,
    outline_mask,
    read_json,
    rejection,
)
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

PICTURE_FOLDERS = ("", "JPEGImages", "images")  # beside the annotation file, when `pictures` is empty
_MISSING = object()


@dataclass
class _CocoFile:
    """The content of one file, in order, and what was met on the way."""

    path: Path
    folders: Sequence[Path]
    max_megapixels: int
    images: list[Any]
    names: dict[Any, str | None]  # category id -> name; None: left out on purpose
    annotations: dict[Any, list[Any]] = field(default_factory=dict)  # image id -> its annotations
    strays: list[Rejected] = field(default_factory=list)  # annotations that belong to no picture
    ids: ImageIds = field(default_factory=ImageIds)
    annotation_ids: set[Any] = field(default_factory=set)


class CocoSource(Section):
    """A COCO instances file and its pictures."""

    reader: Literal["coco"]
    annotations: str = Field(min_length=1)
    """The annotation file."""
    pictures: str = ""
    """Folder of the pictures; "" looks beside the file, in JPEGImages/ and in images/."""
    is_exhaustive: bool = True
    """Whether every object of the classes is outlined in every picture, as in COCO itself. Where not, nothing asks
    for all of a class, for the other one of two, or for what is not there."""


def read(source: CocoSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures of a COCO instances file with their regions, and what could not be read.

    An annotation is one region, the union of its polygons; regions come without phrases. Categories of one
    name are one category. A crowd annotation is a region "group of ..." with the attribute crowd = yes.
    Annotations of unknown pictures are reported last.

    Raises:
        DataError: the file as a whole is not COCO instances, or there is no such folder of pictures.
    """
    annotations, pictures = Path(source.annotations), picture_folder(source.pictures)
    folders = [pictures] if pictures else [annotations.parent / name for name in PICTURE_FOLDERS]
    coco = _load(annotations, folders=folders, ignore=limits.ignore_categories, max_megapixels=limits.max_megapixels)
    total = min(len(coco.images), limits.max_pictures)
    for image in progress(coco.images, total=total, name="reading coco", unit="pictures"):
        yield from _read_picture(coco, image)
    yield from coco.strays


def _load(path: Path, *, folders: Sequence[Path], ignore: Sequence[str], max_megapixels: int) -> _CocoFile:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: the file holds a {type(content).__name__}; COCO instances are an object with the keys "
            "images, annotations and categories. Export it as COCO instances."
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f'{path}: no list under "{key}". Export it as COCO instances, with masks.')
    names = _category_names(path, content["categories"], ignore=ignore)
    coco = _CocoFile(path, folders, max_megapixels, content["images"], names)
    _group(coco, content["annotations"])
    return coco


def _category_names(path: Path, records: list[Any], *, ignore: Sequence[str]) -> dict[Any, str | None]:
    names: dict[Any, str | None] = {}
    for index, record in enumerate(records):
        try:
            key, raw = field_of(record, "id"), field_of(record, "name")
            name = None if raw in ignore else category_name(raw)
        except DataError as error:
            raise DataError(f"{path}: categories[{index}]: {error}. Correct it in the file.") from None
        if key in names and names[key] != name:
            raise DataError(f"{path}: category id {key} stands for {names[key]!r} and for {name!r}. Keep one.")
        names[key] = name
    return names


def _group(coco: _CocoFile, annotations: list[Any]) -> None:
    for image in coco.images:
        if isinstance(image, dict) and isinstance(image.get("id"), int | str):
            coco.annotations[image["id"]] = []
    for index, annotation in enumerate(annotations):
        where = f"{coco.path}: annotations[{index}]"
        try:
            image_id = field_of(annotation, "image_id")
        except DataError as error:
            coco.strays.append(rejection(RejectedRegion, where, error))
            continue
        if image_id in coco.annotations:
            coco.annotations[image_id].append(annotation)
        else:
            reason = f"image id {image_id!r} is the id of no picture in the file"
            coco.strays.append(rejection(RejectedRegion, where, reason))


def _read_picture(coco: _CocoFile, image: Any) -> Iterator[FilePicture | Rejected]:
    where = f"{coco.path}: image {label_of(image)}"
    try:
        annotations = coco.annotations.pop(field_of(image, "id"), None)
        if annotations is None:
            raise DataError("an earlier picture has the same id")
        path = find_picture(field_of(image, "file_name"), folders=coco.folders, root=coco.path.parent)
        picture = load_picture(path, max_megapixels=coco.max_megapixels)
        check_size(picture, height=image.get("height"), width=image.get("width"), name=path.name)
    except DataError as error:
        yield rejection(RejectedPicture, where, error)
        return
    origin = printable(image["file_name"])
    image_id = coco.ids.allot(origin)
    regions: list[Region] = []
    for annotation in annotations:
        try:
            region = _region(coco, annotation, picture, image_id=image_id, number=len(regions))
        except DataError as error:
            yield rejection(RejectedRegion, f"{where}, annotation {label_of(annotation)}", error)
            continue
        if region:
            regions.append(region)
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=origin,
        regions=tuple(regions),
        content=picture.content,
        suffix=picture.suffix,
    )


def check_size(picture: UprightPicture, *, height: object, width: object, name: str) -> None:
    """Does nothing if the stated size is the picture's, upright, or if none is stated.

    Raises:
        DataError: the sizes differ, so outlines may lie anywhere.
    """
    found = picture.pixels
    if (height is None and width is None) or (height == found.height and width == found.width):
        return
    hint = "Annotate the upright picture" if picture.is_turned else "Use the picture that was annotated"
    turned = " (upright, by its EXIF orientation)" if picture.is_turned else ""
    raise DataError(f"size {width} x {height} is stated, but {name} has {found.width} x {found.height}{turned}. {hint}")


def _region(coco: _CocoFile, annotation: Any, picture: UprightPicture, *, image_id: str, number: int) -> Region | None:
    """None: its category is left out on purpose."""
    annotation_id = annotation.get("id", _MISSING)
    if annotation_id is not _MISSING:
        if field_of(annotation, "id") in coco.annotation_ids:
            raise DataError(f"an earlier annotation has the same id {annotation_id}")
        coco.annotation_ids.add(annotation_id)
    category_id = field_of(annotation, "category_id")
    if category_id not in coco.names:
        raise DataError(f"category id {category_id!r} is not among the categories")
    name = coco.names[category_id]
    if name is None:
        return None
    is_crowd = annotation.get("iscrowd") in (1, True)
    size = {"height": picture.pixels.height, "width": picture.pixels.width}
    return Region(
        region_id=f"{image_id}-r{number}",
        image_id=image_id,
        phrase="",
        mask=segmentation_mask(annotation.get("segmentation"), **size),
        category=f"group of {plural(name)}" if is_crowd else name,
        attributes={"crowd": "yes"} if is_crowd else {},
    )


def segmentation_mask(segmentation: object, *, height: int, width: int) -> Rle:
    if isinstance(segmentation, list):
        return outline_mask(segmentation, height=height, width=width)
    if not isinstance(segmentation, dict):
        raise DataError("no segmentation: a box or a name alone gives no mask; outline the object")
    if segmentation.get("size") != [height, width]:
        raise DataError(f"run-length code of size {segmentation.get('size')}; the picture has {[height, width]}")
    counts = segmentation.get("counts")
    runs = unpack_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise DataError("the counts of a run-length code are not whole numbers from 0")
    if sum(runs) != height * width:
        raise DataError(f"the runs of a run-length code sum to {sum(runs)}; the picture has {height * width} px")
    packed = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return covering(Rle(size=(height, width), counts=packed["counts"].decode("ascii")))


def unpack_runs(counts: str) -> list[int]:
    """The runs in a compressed run-length code, checked, since the C decoder trusts what it is given.

    Source: the COCO API's string form: little-endian groups of five bits from character 48, bit 6 says that
    more follow, the last group carries the sign; from the fourth run on, differences to the run two before.

    Raises:
        DataError: a character out of range, or the code ends within a number.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise DataError(f"character {character!r} does not belong into a compressed run-length code")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise DataError("the compressed run-length code is cut off")
    return runs


def field_of(record: Any, key: str) -> Any:
    """A number or text under this key of a record."""
    if not isinstance(record, dict):
        raise DataError(f"expected an object with keys, found {type(record).__name__}")
    if not isinstance(record.get(key), int | str):
        raise DataError(f'expected a number or text under "{key}", found {record.get(key)!r}')
    return record[key]


def label_of(record: Any) -> str:
    if not isinstance(record, dict):
        return repr(record)[:40]
    name = record.get("file_name")
    return f"{record.get('id')!r} ({name})" if name else repr(record.get("id"))
