"""Reader of PASCAL-Part, as published (a MATLAB file for each picture) or in the JSON form made from it.

The MATLAB files hold objects with their parts. The JSON form (reference facts 3.3: COCO instances whose categories
are "car:wheel") holds parts alone and does not say which object each belongs to.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected
from miras.errors import DataError
from miras.progress import progress
from miras.sources import instances
from miras.sources.annotations import RejectedPicture, RejectedRegion, category_name, covering, rejection
from miras.sources.instances import NamedCategory
from miras.sources.limits import ReadLimits
from miras.sources.pascal_part_names import object_words, part_words
from miras.sources.pictures import FilePicture, ImageIds, UprightPicture, find_picture, load_picture, printable

_NOT_MATLAB = (
    MatReadError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    NotImplementedError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


class PascalPartSource(Section):
    """PASCAL-Part with the pictures of PASCAL VOC 2010."""

    reader: Literal["pascal_part"]
    annotations: str = Field(min_length=1)
    """Folder of *.mat (Annotations_Part), or a JSON file (train.json)."""
    pictures: str = ""
    """Folder of the pictures (JPEGImages); "" looks beside the annotations."""


def read(source: PascalPartSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their regions, without phrases.

    From MATLAB files: objects, each followed by its parts, whose `parent_id` it is; left and right in names are the
    object's own. From JSON: parts without parent, of category "car wheel", with the attributes object and part.

    Raises:
        DataError: no such file or folder, or the JSON file as a whole is not COCO instances.
    """
    path = Path(source.annotations)
    folders = instances.picture_folders(source.pictures, annotations=path / "*.mat" if path.is_dir() else path)
    if path.is_dir():
        return _read_matlab(path, folders, limits)
    return _read_json(path, folders, limits)


@dataclass(frozen=True)
class _Drawn:
    """An object or a part as it stands in a MATLAB file."""

    name: str
    mask: np.ndarray
    parts: tuple[_Drawn, ...] = ()


def _read_matlab(folder: Path, folders: Sequence[Path], limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    files = sorted(folder.glob("*.mat"))
    if not files:
        raise DataError(f"{folder}: no *.mat in it. Set `annotations` to the folder Annotations_Part.")
    ids = ImageIds()
    total = min(len(files), limits.max_pictures)
    for path in progress(files, total=total, name="reading PASCAL-Part", unit="pictures"):
        where = printable(path)
        try:
            name, objects = _matlab_content(path)
            picture_path = find_picture(f"{name}.jpg", folders=folders, root=folder)
            picture = load_picture(picture_path, max_megapixels=limits.max_megapixels)
        except DataError as error:
            yield rejection(RejectedPicture, where, error)
            continue
        image_id = ids.allot(f"{name}.jpg")
        regions: list[Region] = []
        for found in _matlab_regions(objects, picture, image_id=image_id, where=where, ignore=limits.ignore_categories):
            if isinstance(found, Rejected):
                yield found
            else:
                regions.append(found)
        yield FilePicture.of(picture, image_id=image_id, origin=f"{name}.jpg", regions=regions)


def _matlab_content(path: Path) -> tuple[str, list[_Drawn]]:
    """Name of the picture and its objects."""
    try:
        anno = loadmat(path)["anno"][0, 0]
        objects = [
            _Drawn(
                name=str(item["class"].item()),
                mask=item["mask"],
                parts=tuple(_Drawn(str(part["part_name"].item()), part["mask"]) for part in item["parts"].ravel()),
            )
            for item in anno["objects"].ravel()
        ]
        return printable(anno["imname"].item()), objects
    except _NOT_MATLAB as error:
        raise DataError(f"not a PASCAL-Part file, or damaged: {error}. Take it from the data set again") from None


def _matlab_regions(
    objects: Sequence[_Drawn], picture: UprightPicture, *, image_id: str, where: str, ignore: Sequence[str]
) -> Iterator[Region | Rejected]:
    size = (picture.pixels.height, picture.pixels.width)
    number = 0
    for index, item in enumerate(objects):
        if item.name in ignore:
            continue
        place = f"{where}: object {index + 1} ({printable(item.name)})"
        whole: Region | None = None
        for part in (None, *item.parts):
            drawn = part or item
            if drawn.name in ignore:
                continue
            try:
                if part and whole is None:
                    raise DataError("its object could not be read")
                region = Region(
                    region_id=f"{image_id}-r{number}",
                    image_id=image_id,
                    phrase="",
                    mask=covering(masks.encode(_of_size(drawn.mask, size) > 0)),
                    category=part_words(drawn.name) if part else object_words(drawn.name),
                    parent_id=whole.region_id if whole else None,
                )
            except DataError as error:
                name = f"{place}, part {printable(drawn.name)}" if part else place
                yield rejection(RejectedRegion, name, error)
                continue
            whole = whole or region
            number += 1
            yield region


def _of_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape != size or mask.dtype.kind not in "bui":
        raise DataError(f"a mask of {mask.shape} {mask.dtype}; expected numbers, one for each pixel of {size}")
    return mask


def _read_json(path: Path, folders: Sequence[Path], limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    index = instances.index(path)
    categories = instances.read_categories(
        path, index.categories, lambda _, raw: _read_category(raw, ignore=limits.ignore_categories)
    )
    pictures = instances.open_pictures(
        index, folders=folders, limits=limits, file_names=lambda record: [record.get("file_name")]
    )
    for item in pictures:
        if isinstance(item, Rejected):
            yield item
        else:
            yield from item.with_regions(instances.plain_regions(item, categories))


def _read_category(raw: str, *, ignore: Sequence[str]) -> NamedCategory | None:
    """Its attributes are object and, but for whole objects, part."""
    thing, colon, part = raw.partition(":")
    stated = {"object": object_words(thing)} | ({"part": category_name(part)} if colon else {})
    return None if raw in ignore or thing in ignore else NamedCategory(" ".join(stated.values()), stated)
