"""Reader of COCO panoptic files: things (each one) and stuff (a class as a whole), without overlap.

The PNG of a picture holds at each pixel the segment's id, red + 256 green + 65536 blue; 0 says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected
from miras.errors import DataError
from miras.generate.language import plural
from miras.sources import instances
from miras.sources.annotations import RejectedPicture, RejectedRegion, category_name, rejection
from miras.sources.instances import OpenPicture
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture, decode_image, find_picture, printable, read_content

STUFF_ENDINGS = ("-merged", "-other", "-stuff")  # of class names: they speak of how classes were joined


class CocoPanopticSource(Section):
    """A COCO panoptic file with its PNG and pictures."""

    reader: Literal["coco_panoptic"]
    annotations: str = Field(min_length=1)
    """The JSON file: panoptic_train2017.json."""
    segments: str = Field(min_length=1)
    """Folder of the PNG."""
    pictures: str = ""
    """Folder of the pictures; "" looks beside the annotations."""


def read(source: CocoPanopticSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with a region for each segment; stuff has the attribute kind = semantic, crowds crowd = yes.

    Raises:
        DataError: the file as a whole is not COCO panoptic, or the folder of PNG is missing.
    """
    path, segments = Path(source.annotations), Path(source.segments)
    if not segments.is_dir():
        raise DataError(f"{segments}: no such folder. Set `segments` to the folder of the panoptic PNG.")
    folders = instances.picture_folders(source.pictures, annotations=path)
    index = instances.index(path)
    categories = instances.read_categories(path, index.categories, _category)
    pictures = instances.open_pictures(
        index, folders=folders, limits=limits, file_names=lambda record: [record.get("file_name")]
    )
    for item in pictures:
        if isinstance(item, Rejected):
            yield item
            continue
        try:
            found = list(_regions(item, segments, categories, limits))
        except DataError as error:
            yield rejection(RejectedPicture, item.where, error)
            continue
        yield from item.with_regions(found)


@dataclass(frozen=True)
class _Category:
    raw: str
    name: str
    is_thing: bool


def _category(record: Mapping[str, Any], raw: str) -> _Category:
    return _Category(raw=raw, name=_words(raw), is_thing=record.get("isthing") in (1, True))


def _words(raw: str) -> str:
    """ "wall-other-merged" -> "wall", "wall-brick" -> "brick wall"."""
    name = category_name(raw)
    for ending in (*STUFF_ENDINGS, *STUFF_ENDINGS):
        name = name.removesuffix(ending)
    whole, hyphen, which = name.partition("-")
    return f"{which} {whole}" if hyphen else name


def _regions(
    item: OpenPicture, folder: Path, categories: Mapping[Any, _Category], limits: ReadLimits
) -> Iterator[Region | Rejected]:
    if len(item.annotations) != 1 or not isinstance(item.annotations[0].get("segments_info"), list):
        raise DataError(f"{len(item.annotations)} annotations; expected one, with a list of segments_info")
    annotation = item.annotations[0]
    ids = _segment_ids(find_picture(annotation.get("file_name"), folders=[folder], root=folder), item, limits)
    number = 0
    for segment in annotation["segments_info"]:
        where = f"{item.where}, segment {instances.label_of(segment)}"
        try:
            segment_id = instances.field_of(segment, "id")
            category_id = instances.field_of(segment, "category_id")
            if category_id not in categories:
                raise DataError(f"category id {category_id!r} is not among the categories")
            category = categories[category_id]
            if category.raw in limits.ignore_categories:
                continue
            mask = ids == segment_id
            if not mask.any():
                raise DataError("no pixel of the PNG has its id")
        except DataError as error:
            yield rejection(RejectedRegion, where, error)
            continue
        is_crowd = segment.get("iscrowd") in (1, True)
        stated = {"crowd": "yes" if is_crowd else "", "kind": "" if category.is_thing else "semantic"}
        yield Region(
            region_id=f"{item.image_id}-r{number}",
            image_id=item.image_id,
            phrase="",
            mask=masks.encode(mask),
            category=f"group of {plural(category.name)}" if is_crowd else category.name,
            attributes={key: value for key, value in stated.items() if value},
        )
        number += 1


def _segment_ids(path: Path, item: OpenPicture, limits: ReadLimits) -> np.ndarray:
    """Segment id of each pixel, int64 (h, w)."""
    where = printable(path)
    image = decode_image(read_content(path), where=where, max_megapixels=limits.max_megapixels)
    if image.mode != "RGB" or image.size != item.picture.pixels.size:
        raise DataError(f"{where}: {image.mode} {image.size}; expected RGB of the picture's size")
    red, green, blue = np.moveaxis(np.asarray(image).astype(np.int64), -1, 0)
    return np.asarray(red + 256 * green + 65536 * blue)
