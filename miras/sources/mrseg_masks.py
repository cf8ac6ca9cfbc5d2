"""Masks that MRSeg markers name, found in the annotation files of the data sets they come from.

Each file is gone through once; of it, the places of the annotations that the dialogues name are kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from miras.config import Section
from miras.dialogue import masks
from miras.dialogue.records import Rle
from miras.errors import DataError
from miras.sources.annotations import category_name, covering, read_json
from miras.sources.json_elements import element_at, walk
from miras.sources.labelme import ENCODINGS
from miras.sources.mask_files import read_mask_file
from miras.sources.mrseg_markers import MaskName
from miras.sources.pictures import UprightPicture, printable
from miras.sources.reasonseg import target_mask
from miras.sources.refer import instance_mask
from miras.sources.told import UNNAMED

NUM_PIXEL_VALUES = 256
_LAST_NUMBER = re.compile(r"(\d+)\D*$")


class MaskFiles(Section):
    """Where the masks of one data set are."""

    form: Literal["coco", "rle", "attributes", "class_png", "reason_seg"]
    """coco: instances, LVIS, PACO; rle: an object of id -> run-length code (Visual Genome, PASCAL); attributes: an
    object of id -> {segmentation, image_dim}; class_png: a folder of PNGs whose values are classes (ADE20K,
    COCO-Stuff); reason_seg: a folder of ReasonSeg's files."""
    path: str = Field(min_length=1)
    """The file or folder."""
    first_value: int = Field(default=0, ge=0, le=255)
    """class_png: the value of class 0 (ADE20K 1, COCO-Stuff 0)."""
    names: str = ""
    """class_png: names of the classes, a JSON list or lines of "id: name"; "": they have none."""


@dataclass(frozen=True)
class FoundMask:
    """An annotation's mask and what it is of."""

    mask: Rle
    category: str
    """Class name; "thing asked for" where the data set has none."""


@dataclass
class _Index:
    """Where one file's annotations stand."""

    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Id -> first byte and length."""
    categories: dict[int, str] = field(default_factory=dict)
    image_names: dict[int, str] = field(default_factory=dict)


class MaskStore:
    """Finds masks by name. Files are indexed when the first of their masks is asked for.

    Args:
        files: data set as the markers call it -> its files.
        wanted: data set -> the ids that will be asked for.
        max_megapixels: of a class PNG.
    """

    def __init__(
        self, files: Mapping[str, MaskFiles], *, wanted: Mapping[str, Collection[str]], max_megapixels: int
    ) -> None:
        self._files = files
        self._wanted = wanted
        self._max_megapixels = max_megapixels
        self._indices: dict[str, _Index] = {}
        self._class_names: dict[str, dict[int, str]] = {}

    def is_semantic(self, dataset: str) -> bool:
        """Whether a mask of this data set is all of a class."""
        return dataset in self._files and self._files[dataset].form == "class_png"

    def find(self, name: MaskName, *, image: str, picture: UprightPicture) -> FoundMask:
        """The mask of this name.

        Args:
            image: the picture's name in the record.
            picture: it, decoded.

        Raises:
            DataError: the data set is not configured, has no such annotation, or the mask is not of this picture.
        """
        files = self._files.get(name.dataset)
        if files is None:
            known = ", ".join(self._files) or "none"
            raise DataError(f"masks of {name.dataset!r} are not configured (known: {known}); add them to `masks`")
        try:
            if files.form == "class_png":
                return self._of_class(name, files, image=image, picture=picture)
            if files.form == "reason_seg":
                content = read_json(Path(files.path) / f"{PurePosixPath(image).stem}.json", encodings=ENCODINGS)
                shapes = content.get("shapes") if isinstance(content, dict) else None
                if not isinstance(shapes, list):
                    raise DataError('no list under "shapes": not a ReasonSeg file')
                return FoundMask(target_mask(shapes, picture)[0], UNNAMED)
            return self._of_annotation(name, files, image=image, picture=picture)
        except DataError as error:
            raise DataError(f"{name.dataset} {name.annotation!r}: {error}") from None

    def _of_annotation(self, name: MaskName, files: MaskFiles, *, image: str, picture: UprightPicture) -> FoundMask:
        index = self._indices.get(name.dataset)
        if index is None:
            index = self._indices[name.dataset] = _index(files, self._wanted.get(name.dataset, ()))
        if name.annotation not in index.places:
            raise DataError(f"{printable(files.path)} has no such annotation")
        with Path(files.path).open("rb") as file:
            annotation = element_at(file, *index.places[name.annotation])
        height, width = picture.pixels.height, picture.pixels.width
        if files.form == "rle":
            return FoundMask(instance_mask(annotation, height=height, width=width), UNNAMED)
        if not isinstance(annotation, dict):
            raise DataError(f"expected an object with keys, found {type(annotation).__name__}")
        if files.form == "attributes":
            if annotation.get("image_dim") != [height, width]:
                raise DataError(f"image_dim is {annotation.get('image_dim')}; the picture has {[height, width]}")
            return FoundMask(instance_mask(annotation.get("segmentation"), height=height, width=width), UNNAMED)
        stated = index.image_names.get(annotation.get("image_id", -1), "")
        if _number(stated) != _number(image):
            raise DataError(f"it is an annotation of {stated!r}, not of {image!r}")
        mask = instance_mask(annotation.get("segmentation"), height=height, width=width)
        return FoundMask(mask, index.categories.get(annotation.get("category_id", -1), UNNAMED))

    def _of_class(self, name: MaskName, files: MaskFiles, *, image: str, picture: UprightPicture) -> FoundMask:
        if not name.annotation.isdecimal():
            raise DataError("expected the number of a class")
        number = int(name.annotation)
        path = Path(files.path) / f"{PurePosixPath(image).stem}.png"
        size = (picture.pixels.height, picture.pixels.width)
        values = read_mask_file(path, size=size, num_classes=NUM_PIXEL_VALUES, max_megapixels=self._max_megapixels)
        mask = covering(masks.encode(values == number + files.first_value))
        if name.dataset not in self._class_names:
            self._class_names[name.dataset] = _class_names(files.names)
        return FoundMask(mask, self._class_names[name.dataset].get(number, UNNAMED))


def _index(files: MaskFiles, wanted: Collection[str]) -> _Index:
    index, path = _Index(), Path(files.path)
    if files.form != "coco":
        for element in walk(path):
            if element.member in wanted:
                index.places[element.member] = (element.offset, element.length)
        return index
    for element in walk(path, lists=("images", "annotations", "categories")):
        record: Any = element.value
        if element.member not in ("images", "annotations", "categories") or not isinstance(record, dict):
            continue
        number = record.get("id")
        if not isinstance(number, int | str):
            continue
        if element.member == "annotations" and str(number) in wanted:
            index.places[str(number)] = (element.offset, element.length)
        elif element.member == "images" and isinstance(number, int):
            index.image_names[number] = str(record.get("file_name") or record.get("coco_url") or "")
        elif element.member == "categories" and isinstance(number, int):
            index.categories[number] = _plain_category(record.get("name"))
    return index


def _plain_category(raw: object) -> str:
    """ "mug_(drinking_vessel):handle" -> "mug handle"."""
    pieces = raw.split(":") if isinstance(raw, str) else []
    return category_name(" ".join(piece.split("_(")[0] for piece in pieces))


def _class_names(name: str) -> dict[int, str]:
    if not name:
        return {}
    path = Path(name)
    if path.suffix == ".json":
        listed = read_json(path)
        if not isinstance(listed, list):
            raise DataError(f"{printable(path)}: expected a list of names, found {type(listed).__name__}")
        return {number: category_name(item) for number, item in enumerate(listed)}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(path)}: no list of class names ({error}). Set `names` of the masks") from None
    pairs = [line.split(":", 1) for line in lines if ":" in line]
    return {int(number): category_name(text) for number, text in pairs if number.strip().isdecimal()}


def _number(image: str) -> str:
    """The last number in a picture's name without its zeros, or the name itself: COCO_train2014_000000000009 -> 9."""
    stem = PurePosixPath(image).stem
    found = _LAST_NUMBER.search(stem)
    return found.group(1).lstrip("0") if found else stem
