"""Reader of data sets that label every pixel: ADE20K scene parsing, COCO-Stuff, Mapillary, CamVid and their like.

Each class in a picture is one region, the whole of its pixels, with the attribute kind = semantic: such a mask says
where there is road or where cars are, not which car.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected
from miras.errors import DataError
from miras.progress import progress
from miras.sources.annotations import RejectedPicture, rejection
from miras.sources.label_layouts import LAYOUTS, Layout, LayoutName, class_words, values_of
from miras.sources.limits import ReadLimits
from miras.sources.mask_files import LOSSY_FORMATS
from miras.sources.pictures import FilePicture, ImageIds, decode_image, load_picture, printable, read_content

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
INDEX_MODES = ("1", "L", "P", "I", "I;16")


class SemanticSource(Section):
    """Pictures and label pictures in two folders (or one), paired by their names."""

    reader: Literal["semantic"]
    layout: LayoutName
    """ade20k (0 says nothing, value 1 is the first name), coco_stuff (0-181, 255), mapillary_v2 (config_v2.0.json),
    indices (value = index in the names file), colours (CamVid as published) or binary (from 128 on: name 1)."""
    pictures: str = Field(min_length=1)
    """Folder of the pictures, with its subfolders."""
    labels: str = Field(min_length=1)
    """Folder of the label pictures, with the same subfolders."""
    label_ending: str = Field(min_length=1)
    """What follows a picture's name in its label's: ".png", or "_L.png" for CamVid as published."""
    names: str = Field(min_length=1)
    """File of class names, in the layout's own form."""
    is_exhaustive: bool = True
    """Whether every pixel of the classes is labelled in every picture, not only those of the main person. Where not,
    nothing asks for all of a class, for the other one of two, or for what is not there."""


@dataclass(frozen=True)
class _Labelled:
    """A data set's layout and words."""

    layout: Layout
    words: Mapping[int, str | None]
    """By value; None: left out."""


def read(source: SemanticSource, *, limits: ReadLimits) -> Iterator[FilePicture | Rejected]:
    """The pictures with a region for each class in them; a picture may have none.

    A picture without label, a label without picture, and a label with a value that has no name are rejected.

    Raises:
        DataError: a folder or the names file is missing or malformed.
    """
    layout = LAYOUTS[source.layout]
    labelled = _Labelled(layout, class_words(Path(source.names), layout, ignore=limits.ignore_categories))
    labels = _labels(Path(source.labels), source.label_ending)
    pictures = _pictures(Path(source.pictures), leave_out=set(labels.values()))
    names = sorted(pictures.keys() | labels.keys())
    ids = ImageIds()
    total = min(len(names), limits.max_pictures)
    for name in progress(names, total=total, name=f"reading {source.layout} labels", unit="pictures"):
        try:
            if name not in labels:
                raise DataError(f"no label {name}{source.label_ending} in {source.labels}. Add it, or take it out")
            if name not in pictures:
                raise DataError(f"no picture {name} in {source.pictures}. Put it there, or drop the label")
            yield _read(pictures[name], labels[name], labelled, ids=ids, name=name, limits=limits)
        except DataError as error:
            yield rejection(RejectedPicture, pictures.get(name) or labels.get(name), error)


def _files(folder: Path, *, key: str) -> Iterator[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Set `{key}` to it.")
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def _labels(folder: Path, ending: str) -> dict[str, Path]:
    """By the picture's name: the path below the folder, without ending."""
    if not ending.lower().endswith(LABEL_SUFFIXES):
        raise DataError(f"label_ending {ending!r} ends in none of {', '.join(LABEL_SUFFIXES)}. Correct it.")
    found = (path for path in _files(folder, key="labels") if path.name.endswith(ending))
    labels = {path.relative_to(folder).as_posix().removesuffix(ending): path for path in found}
    if not labels:
        raise DataError(f"{folder}: no file ends in {ending!r}. Set `labels` to the folder of the label pictures.")
    return labels


def _pictures(folder: Path, *, leave_out: set[Path]) -> dict[str, Path]:
    pictures: dict[str, Path] = {}
    for path in _files(folder, key="pictures"):
        if path in leave_out or path.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in pictures:
            raise DataError(f"{path}: {pictures[name].name} has the same name. Keep one of the two.")
        pictures[name] = path
    return pictures


def _read(
    path: Path, label_path: Path, labelled: _Labelled, *, ids: ImageIds, name: str, limits: ReadLimits
) -> FilePicture:
    picture = load_picture(path, max_megapixels=limits.max_megapixels)
    size = (picture.pixels.height, picture.pixels.width)
    values = _values(label_path, labelled.layout, size=size, max_megapixels=limits.max_megapixels)
    present = np.unique(values).tolist()
    unknown = [value for value in present if value not in labelled.words]
    if unknown:
        shown = ", ".join(_shown(value, labelled.layout) for value in unknown[:5])
        raise DataError(f"{printable(label_path)}: class {shown} has no name. Correct the label or the names")
    origin = printable(name + path.suffix)
    image_id = ids.allot(origin)
    value_of_words: dict[str, list[int]] = {}
    for value in present:
        words = labelled.words[value]
        if words is not None:
            value_of_words.setdefault(words, []).append(value)
    regions = [
        Region(
            region_id=f"{image_id}-r{number}",
            image_id=image_id,
            phrase="",
            mask=masks.encode(np.isin(values, same)),
            category=words,
            attributes={"kind": "semantic"},
        )
        for number, (words, same) in enumerate(value_of_words.items())
    ]
    return FilePicture.of(picture, image_id=image_id, origin=origin, regions=regions)


def _shown(value: int, layout: Layout) -> str:
    if not layout.is_coloured:
        return str(value)
    return f"colour {value // 65536} {value // 256 % 256} {value % 256}"


def _values(path: Path, layout: Layout, *, size: tuple[int, int], max_megapixels: int) -> np.ndarray:
    where = printable(path)
    image = decode_image(read_content(path), where=where, max_megapixels=max_megapixels)
    if (image.height, image.width) != size:
        turned = "; its axes are swapped" if (image.width, image.height) == size else ""
        raise DataError(
            f"{where}: size {image.width} x {image.height}, but the picture has {size[1]} x {size[0]}{turned}"
        )
    if image.format in LOSSY_FORMATS and not layout.is_binary:
        raise DataError(f"{where}: a JPEG does not keep classes. Save the label as PNG")
    if layout.is_coloured:
        if image.mode not in ("RGB", "P"):
            raise DataError(f"{where}: mode {image.mode}; expected a colour for each class (RGB)")
        return values_of(np.asarray(image.convert("RGB")), layout)
    if image.mode not in INDEX_MODES:
        raise DataError(f"{where}: colours (mode {image.mode}) where one class index per pixel is expected")
    pixels = np.asarray(image)
    return values_of(pixels * np.uint8(255) if image.mode == "1" and layout.is_binary else pixels, layout)
