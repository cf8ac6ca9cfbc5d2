"""Reader of the full ADE20K (2021 release): objects, their parts, and parts of parts.

Each picture X.jpg has X.json (names, outlines, hierarchy), X_seg.png (objects) and X_parts_1.png, X_parts_2.png, ...
(one for each level of parts). In those PNG, red and green give the class and blue the instance, for the pixels where
the instance is visible; which blue belongs to which object of the JSON file is not written down, so each object takes
the one of its class that fits its outline best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask
from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected, Rle
from miras.errors import DataError
from miras.generate.language import plural
from miras.progress import progress
from miras.sources.annotations import (
    RejectedPicture,
    RejectedRegion,
    category_name,
    outline_mask,
    read_json,
    rejection,
)
from miras.sources.limits import ReadLimits
from miras.sources.pictures import (
    FilePicture,
    ImageIds,
    decode_image,
    load_picture,
    printable,
    read_content,
)

ENCODINGS = ("utf-8-sig", "cp1252")
CLASSES_PER_RED = 256  # class = red / 10 * 256 + green
RED_STEP = 10


class Ade20kSource(Section):
    """The folder of the full ADE20K."""

    reader: Literal["ade20k"]
    folder: str = Field(min_length=1)
    """images/ADE/training or any folder above or below it; searched for *.json."""


@dataclass(frozen=True)
class _Object:
    """A record of the JSON file."""

    object_id: int
    class_number: int
    level: int
    """0: an object, 1: a part, 2: a part of a part."""
    parent: int | None
    category: str
    attributes: dict[str, str]
    outline: Rle
    """Of the whole thing, hidden pixels too."""


@dataclass(frozen=True)
class _Annotated:
    """A picture's records, by their level, those that could not be read, and those left out on purpose."""

    objects: list[_Object]
    rejected: list[Rejected]
    left_out: set[int]


def read(source: Ade20kSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with their regions, objects before parts, masks of what is visible, without phrases.

    The category is the annotator's own word where it is among the class's synonyms, else the first synonym, the same
    for all of a class in a picture; the others are its attribute synonyms. A word in the plural ("cars") makes a
    group, with the attribute crowd = yes. A part whose object is rejected is rejected with it.

    Raises:
        DataError: no such folder, or no JSON file in it.
    """
    folder = Path(source.folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Set `folder` to that of ADE20K.")
    files = sorted(folder.rglob("*.json"))
    if not files:
        raise DataError(f"{folder}: no *.json in or below it. Set `folder` to that of the full ADE20K.")
    ids = ImageIds()
    total = min(len(files), limits.max_pictures)
    for path in progress(files, total=total, name="reading ADE20K", unit="pictures"):
        yield from _read_file(path, ids, limits)


def _read_file(path: Path, ids: ImageIds, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    where = printable(path)
    try:
        content = read_json(path, encodings=ENCODINGS)
        annotation = content.get("annotation") if isinstance(content, dict) else None
        if not isinstance(annotation, dict) or not isinstance(annotation.get("object"), list):
            raise DataError('no list under "annotation", "object": not a file of the full ADE20K')
        picture = load_picture(path.with_suffix(".jpg"), max_megapixels=limits.max_megapixels)
        size = (picture.pixels.height, picture.pixels.width)
        annotated = _annotated(annotation["object"], size, where=where, ignore=limits.ignore_categories)
        levels = {item.level for item in annotated.objects}
        visible = {level: _visible(path, level, size, limits) for level in levels}
    except DataError as error:
        yield rejection(RejectedPicture, where, error)
        return
    image_id = ids.allot(path.with_suffix(".jpg").name)
    yield from annotated.rejected
    regions: dict[int, Region] = {}  # by object id
    matched = {found: code for level in levels for found, code in _match(annotated, level, visible[level]).items()}
    for item in annotated.objects:
        if item.parent in annotated.left_out:
            annotated.left_out.add(item.object_id)
            continue
        try:
            regions[item.object_id] = _region(item, matched, regions, image_id=image_id)
        except DataError as error:
            yield rejection(RejectedRegion, f"{where}: object {item.object_id} ({item.category})", error)
    origin = printable(path.with_suffix(".jpg").name)
    yield FilePicture.of(picture, image_id=image_id, origin=origin, regions=list(regions.values()))


def _region(item: _Object, matched: Mapping[int, Rle], regions: Mapping[int, Region], *, image_id: str) -> Region:
    if item.object_id not in matched:
        raise DataError("no pixel of it is visible in the coded PNG: hidden, or of another class there")
    if item.parent is not None and item.parent not in regions:
        raise DataError(f"the object {item.parent} it is a part of is not in the file, or could not be read")
    return Region(
        region_id=f"{image_id}-r{len(regions)}",
        image_id=image_id,
        phrase="",
        mask=matched[item.object_id],
        category=item.category,
        attributes=item.attributes,
        parent_id=None if item.parent is None else regions[item.parent].region_id,
    )


def _annotated(records: Sequence[Any], size: tuple[int, int], *, where: str, ignore: Sequence[str]) -> _Annotated:
    found: dict[int, _Object] = {}
    annotated = _Annotated([], [], set())
    words: dict[int, str] = {}
    for number, record in enumerate(records):
        try:
            item = _object(record, size, words)
            if item.object_id in found or item.object_id in annotated.left_out:
                raise DataError(f"an earlier object has the same id {item.object_id}")
        except DataError as error:
            annotated.rejected.append(rejection(RejectedRegion, f"{where}: object[{number}]", error))
            continue
        if record.get("raw_name") in ignore or record["name"] in ignore or item.category in ignore:
            annotated.left_out.add(item.object_id)
        else:
            found[item.object_id] = item
    annotated.objects.extend(sorted(found.values(), key=lambda item: (item.level, item.object_id)))
    return annotated


def _object(record: Any, size: tuple[int, int], words: dict[int, str]) -> _Object:
    """An object, called as the earlier ones of its class; `words` keeps what each class is called."""
    if not isinstance(record, dict) or not isinstance(record.get("parts"), dict):
        raise DataError('expected an object with keys, "parts" among them')
    parts = record["parts"]
    parent = parts.get("ispartof")
    class_number = _whole_number(record, "name_ndx")
    synonyms = [category_name(part) for part in category_name(record.get("name")).split(",")]
    own_word, is_group = _own_word(record.get("raw_name"), synonyms)
    word = words.setdefault(class_number, own_word)
    return _Object(
        object_id=_whole_number(record, "id"),
        class_number=class_number,
        level=_whole_number(parts, "part_level"),
        parent=None if parent in ([], None) else _whole_number(parts, "ispartof"),
        category=f"group of {plural(word)}" if is_group else word,
        attributes=_attributes(record, is_group=is_group, synonyms=[other for other in synonyms if other != word]),
        outline=_outline(record.get("polygon"), size),
    )


def _whole_number(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    if type(value) is not int or value < 0:
        raise DataError(f'expected a whole number from 0 under "{key}", found {value!r}')
    return value


def _own_word(raw: object, synonyms: Sequence[str]) -> tuple[str, bool]:
    """The synonym that the annotator used (else the first), and whether in the plural."""
    for synonym in synonyms:
        if raw in (synonym, plural(synonym)):
            return synonym, raw != synonym
    return synonyms[0], False


def _attributes(record: Mapping[str, Any], *, is_group: bool, synonyms: Sequence[str]) -> dict[str, str]:
    listed = record.get("attributes")
    words = [listed] if isinstance(listed, str) else listed if isinstance(listed, list) else []
    stated = {
        "crowd": "yes" if is_group else "",
        "occluded": "yes" if record.get("occluded") == "yes" else "",
        "cropped": "yes" if record.get("crop") == "1" else "",
        "synonyms": ", ".join(synonyms),
        "described_as": ", ".join(printable(word) for word in words),
    }
    return {key: value for key, value in stated.items() if value}


def _outline(polygon: object, size: tuple[int, int]) -> Rle:
    if not isinstance(polygon, dict):
        raise DataError("no outline")
    xs, ys = polygon.get("x"), polygon.get("y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise DataError("its outline has no x and y of equal number")
    flat = [value for pair in zip(xs, ys, strict=True) for value in pair]
    return outline_mask([flat], height=size[0], width=size[1])


def _visible(path: Path, level: int, size: tuple[int, int], limits: ReadLimits) -> dict[int, list[Rle]]:
    """Masks of the visible instances of a level, by class number."""
    coded_path = path.with_name(f"{path.stem}_seg.png" if level == 0 else f"{path.stem}_parts_{level}.png")
    where = printable(coded_path)
    image = decode_image(read_content(coded_path), where=where, max_megapixels=limits.max_megapixels)
    if image.mode != "RGB" or (image.height, image.width) != size:
        raise DataError(f"{where}: {image.mode}, {image.width} x {image.height}; expected RGB of the picture's size")
    pixels = np.asarray(image).astype(np.int64)
    classes = pixels[..., 0] // RED_STEP * CLASSES_PER_RED + pixels[..., 1]
    codes = classes * 256 + pixels[..., 2]
    masks_of_class: dict[int, list[Rle]] = {}
    for code in np.unique(codes[pixels[..., 2] > 0]).tolist():
        masks_of_class.setdefault(code // 256, []).append(masks.encode(codes == code))
    return masks_of_class


def _match(annotated: _Annotated, level: int, visible: Mapping[int, list[Rle]]) -> dict[int, Rle]:
    """Object id -> visible mask, one to one; the best fitting pairs of a class are joined first."""
    matched: dict[int, Rle] = {}
    for class_number, codes in visible.items():
        items = [item for item in annotated.objects if item.level == level and item.class_number == class_number]
        if not items:
            continue
        fit = _iou([item.outline for item in items], codes)
        taken: set[int] = set()
        for flat in np.argsort(-fit, axis=None, kind="stable").tolist():
            row, column = divmod(flat, len(codes))
            if fit[row, column] > 0 and items[row].object_id not in matched and column not in taken:
                matched[items[row].object_id] = codes[column]
                taken.add(column)
    return matched


def _iou(rows: Sequence[Rle], columns: Sequence[Rle]) -> np.ndarray:
    """Intersection over union of each pair of masks, float64 (rows, columns)."""
    coded = [
        [{"size": list(rle.size), "counts": rle.counts.encode("ascii")} for rle in side] for side in (rows, columns)
    ]
    return np.asarray(coco_mask.iou(*coded, [0] * len(columns)))
