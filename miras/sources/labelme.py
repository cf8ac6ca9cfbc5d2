"""Reader of folders of Labelme files, versions 3.16 to 5.7: polygons, rectangles, circles and bitmaps.

Points and lines enclose no area; they are listed among the rejected but not counted as faults.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected, Rle
from miras.errors import DataError
from miras.progress import progress
from miras.sources.annotations import (
    NotAnArea,
    RejectedPicture,
    RejectedRegion,
    category_name,
    covering,
    number,
    outline_mask,
    read_json,
    rejection,
)
from miras.sources.coco import check_size
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
    upright_picture,
)

ENCODINGS = ("utf-8-sig", "cp1252")  # ReasonSeg's published files hold both
IGNORED_LABEL = "__ignore__"  # Labelme's own word for "leave this out"
SHAPES_WITHOUT_AREA = ("point", "points", "line", "linestrip")
CIRCLE_CORNERS = 128  # computed: encloses 99.96 % of the circle
MAX_BITMAP_MEGAPIXELS = 100  # assumed: as a picture may have


@dataclass(frozen=True)
class _Folder:
    """What all files of one reading share."""

    root: Path
    pictures: Path | None
    ignore: Sequence[str]
    max_megapixels: int


class LabelmeSource(Section):
    """A folder of Labelme files."""

    reader: Literal["labelme"]
    annotations: str = Field(min_length=1)
    """Folder of the *.json files, with its subfolders."""
    pictures: str = ""
    """Folder of the pictures; "" looks beside each file."""
    is_exhaustive: bool = False
    """Whether every object of the classes is outlined in every picture, and not only what somebody needed. Where not,
    nothing asks for all of a class, for the other one of two, or for what is not there."""


def read(source: LabelmeSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures of a folder of Labelme files with their regions, and what could not be read.

    Shapes with the same label and group_id are one region; if one of them cannot be read the region is
    rejected, since a part of its mask is missing. Regions come without phrases.
    A picture's file is preferred to the copy embedded in the annotation, which must be sound all the same.

    Raises:
        DataError: there is no such folder, or no *.json in it.
    """
    annotations = Path(source.annotations)
    if not annotations.is_dir():
        raise DataError(
            f"{annotations}: no such folder. Set `annotations` of the source (params.yaml: ingest.sources) to the "
            "folder of *.json files."
        )
    files = sorted(annotations.rglob("*.json"))
    if not files:
        raise DataError(f"{annotations}: no *.json in it. Set `annotations` of the source to your Labelme files.")
    folder = _Folder(annotations, picture_folder(source.pictures), limits.ignore_categories, limits.max_megapixels)
    ids = ImageIds()
    total = min(len(files), limits.max_pictures)
    for path in progress(files, total=total, name="reading labelme", unit="pictures"):
        yield from _read_file(path, folder, ids)


def _read_file(path: Path, folder: _Folder, ids: ImageIds) -> Iterator[FilePicture | Rejected]:
    try:
        content = read_json(path, encodings=ENCODINGS)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise DataError('no list under "shapes": not a Labelme file. Save it in Labelme again')
        picture = _picture(content, path, folder)
    except DataError as error:
        yield rejection(RejectedPicture, path, error)
        return
    origin = printable(path.relative_to(folder.root))
    image_id = ids.allot(origin)
    regions: list[Region] = []
    for item in _regions(content["shapes"], path, picture, ignore=folder.ignore):
        if isinstance(item, Rejected):
            yield item
        else:
            name, mask = item
            region_id = f"{image_id}-r{len(regions)}"
            regions.append(Region(region_id=region_id, image_id=image_id, phrase="", mask=mask, category=name))
    yield FilePicture(
        image_id=image_id,
        pixels=picture.pixels,
        origin=origin,
        regions=tuple(regions),
        content=picture.content,
        suffix=picture.suffix,
    )


def _picture(content: dict[str, Any], path: Path, folder: _Folder) -> UprightPicture:
    embedded = _embedded(content.get("imageData"))
    folders = [folder.pictures] if folder.pictures else [path.parent]
    try:
        file = find_picture(content.get("imagePath"), folders=folders, root=folder.root)
    except DataError:
        if embedded is None:
            raise
        file = path
    # A file that names itself as its picture (upstream's tutorial does) means the embedded copy.
    if embedded is not None and file.suffix == ".json":
        where = f"imageData of {path.name}"
        picture = upright_picture(embedded, where=where, max_megapixels=folder.max_megapixels)
    else:
        picture = load_picture(file, max_megapixels=folder.max_megapixels)
    stated = {"height": content.get("imageHeight"), "width": content.get("imageWidth")}
    check_size(picture, **stated, name=file.name)
    return picture


def _embedded(data: object) -> bytes | None:
    """The picture inside the annotation; None where there is none."""
    if data is None:
        return None
    try:
        return _base64(data)
    except DataError as error:
        raise DataError(f"imageData {error}. Save the file in Labelme again") from None


def _base64(data: object) -> bytes:
    try:
        return base64.b64decode("".join(str(data).split()), validate=True)
    except ValueError:
        raise DataError(f"is not base64 (it begins with {str(data)[:16]!r})") from None


def _regions(
    shapes: list[Any], path: Path, picture: UprightPicture, *, ignore: Sequence[str]
) -> Iterator[tuple[str, Rle] | Rejected]:
    """(name, mask) of each object, or why it has none."""
    objects: dict[object, list[int]] = {}  # indices of the shapes of each object
    for index, shape in enumerate(shapes):
        where = f"{path}: shapes[{index}]"
        if not isinstance(shape, dict):
            yield rejection(RejectedRegion, where, f"expected an object with keys, found {shape!r}")
        elif shape.get("label") == IGNORED_LABEL or shape.get("label") in ignore:
            continue
        elif shape.get("shape_type") in SHAPES_WITHOUT_AREA:
            reason = f"a {shape['shape_type']} is not an area; outline the object to use it"
            yield rejection(NotAnArea, where, reason)
        else:
            group = shape.get("group_id")
            key = index if group is None else (repr(shape.get("label")), repr(group))
            objects.setdefault(key, []).append(index)
    for indices in objects.values():
        try:
            size = {"height": picture.pixels.height, "width": picture.pixels.width}
            pieces = [shape_mask(shapes[index], **size) for index in indices]
            yield category_name(shapes[indices[0]].get("label")), masks.union(pieces)
        except DataError as error:
            where = f"{path}: shapes{indices}"
            yield rejection(RejectedRegion, where, error)


def shape_mask(shape: dict[str, Any], *, height: int, width: int) -> Rle:
    """What a shape encloses in a picture of this size.

    Raises:
        DataError: its type is unknown, its points are not what its type needs, or it covers no pixel.
    """
    size = {"height": height, "width": width}
    points = _points(shape.get("points"))
    kind = shape.get("shape_type", "polygon")  # versions before 3 had polygons only
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        return outline_mask([_flat(points)], **size)
    if kind not in ("rectangle", "circle", "mask"):
        raise DataError(f"shape type {kind!r} is unknown; expected polygon, rectangle, circle or mask")
    if len(points) != 2:
        raise DataError(f"a {kind} has {len(points)} points; expected 2")
    if kind == "rectangle":
        (x0, y0), (x1, y1) = points
        return outline_mask([[x0, y0, x1, y0, x1, y1, x0, y1]], **size)
    if kind == "circle":
        return outline_mask([_circle(*points)], **size)
    return _bitmap_mask(shape.get("mask"), points, **size)


def _points(points: object) -> list[tuple[float, float]]:
    """(x, y) of each point, pixels."""
    if not isinstance(points, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in points):
        raise DataError("expected points as a list of [x, y]")
    return [(number(x), number(y)) for x, y in points]


def _flat(points: Sequence[tuple[float, float]]) -> list[float]:
    return [value for point in points for value in point]


def _circle(centre: tuple[float, float], edge: tuple[float, float]) -> list[float]:
    """A flat polygon of equal sides around `centre` through `edge`."""
    radius = math.dist(centre, edge)
    angles = (2 * math.pi * corner / CIRCLE_CORNERS for corner in range(CIRCLE_CORNERS))
    return _flat([(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles])


def _bitmap_mask(data: object, points: Sequence[tuple[float, float]], *, height: int, width: int) -> Rle:
    """Labelme's `mask` shape: a PNG of the box between two points, ends included; cut off outside."""
    try:
        content = _base64(data)
    except DataError as error:
        raise DataError(f"the bitmap {error}") from None
    image = decode_image(content, where="the bitmap", max_megapixels=MAX_BITMAP_MEGAPIXELS)
    bitmap = np.asarray(image.convert("L")) > 0
    x0, y0, x1, y1 = (math.floor(value) for value in _flat(points))
    if bitmap.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise DataError(f"the bitmap has {bitmap.shape[::-1]} px, its box {(x1 - x0 + 1, y1 - y0 + 1)}")
    mask = np.zeros((height, width), dtype=bool)
    top, left = max(0, y0), max(0, x0)
    inside = bitmap[top - y0 : height - y0, left - x0 : width - x0]
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return covering(masks.encode(mask))
