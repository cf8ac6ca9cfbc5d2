"""How data sets with one label for each pixel store it: where names come from, what values mean, what is left out.

Source: reference facts 3.3 for ADE20K, COCO-Stuff and Mapillary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from miras.errors import DataError
from miras.sources.annotations import category_name, read_json
from miras.sources.pictures import printable

LayoutName = Literal["ade20k", "coco_stuff", "mapillary_v2", "indices", "colours", "binary"]
_INDEX_AND_NAME = re.compile(r"(?P<index>\d+)\s*[:\t, ]\s*(?P<name>\S.*)")
_COLOUR_FIRST = re.compile(r"(?P<red>\d+)\s+(?P<green>\d+)\s+(?P<blue>\d+)\s+(?P<name>\S.*)")
_COLOUR_LAST = re.compile(r"(?P<name>[^,]+),\s*(?P<red>\d+),\s*(?P<green>\d+),\s*(?P<blue>\d+)\s*")
HALF_OF_255 = 128


@dataclass(frozen=True)
class Layout:
    """Reads a names file and the values of a label picture."""

    names: Callable[[Path], Mapping[int, str]]
    """Raw name by value, from the names file; values it lacks and `void` lacks are faults."""
    is_coloured: bool = False
    """The value of a pixel is red * 65536 + green * 256 + blue, not an index."""
    is_binary: bool = False
    """The value is 1 from 128 on, else 0."""
    void: frozenset[int] = frozenset()
    """Values that say nothing."""
    void_names: frozenset[str] = frozenset()
    """Classes that say nothing, in lower case."""


def values_of(pixels: np.ndarray, layout: Layout) -> np.ndarray:
    """Class value of each pixel, int64 (h, w), from indices (h, w) or colours (h, w, 3)."""
    if layout.is_coloured:
        red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
        return np.asarray(red * 65536 + green * 256 + blue)
    if layout.is_binary:
        return (pixels >= HALF_OF_255).astype(np.int64)
    return pixels.astype(np.int64)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(f"{printable(path)}: no such file. Set `names` to the file of class names.") from None
    except UnicodeDecodeError:
        raise DataError(f"{printable(path)}: not text in UTF-8. Save it as UTF-8.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _indexed_names(path: Path) -> dict[int, str]:
    """From lines "3: sky", "3<tab>sky" or "3 sky"."""
    names: dict[int, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        found = _INDEX_AND_NAME.fullmatch(line)
        if not found or int(found["index"]) in names:
            raise DataError(f"{path}:{number}: expected a new index and a name, such as 3: sky; found {line!r}.")
        names[int(found["index"])] = found["name"]
    return names


def _coco_stuff_names(path: Path) -> dict[int, str]:
    """Names by value of the PNG: the line "1: person" stands for value 0; "0: unlabeled" for 255."""
    return {index - 1: name for index, name in _indexed_names(path).items() if index > 0}


def _ade20k_names(path: Path) -> dict[int, str]:
    """From a JSON list of names, of which the first is value 1."""
    names = read_json(path)
    if not isinstance(names, list):
        raise DataError(f"{path}: expected a JSON list of names, found {type(names).__name__}.")
    return dict(enumerate(names, start=1))


def _mapillary_names(path: Path) -> dict[int, str]:
    """From config_v2.0.json; labels that are not evaluated get no name of their own but stand for nothing."""
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        raise DataError(f'{path}: no list of objects under "labels". Set `names` to config_v2.0.json.')
    return {index: _mapillary_name(label) for index, label in enumerate(labels)}


def _mapillary_name(label: Mapping[str, Any]) -> str:
    return "void" if label.get("evaluate") is False else str(label.get("readable", "")).lower()


def _coloured_names(path: Path) -> dict[int, str]:
    """From lines "64 128 64 Animal" (CamVid) or "Animal, 64, 128, 64" (a class_dict.csv, with or without heading)."""
    names: dict[int, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        found = _COLOUR_FIRST.fullmatch(line) or _COLOUR_LAST.fullmatch(line)
        if not found:
            if number == 1 and line.lower().startswith("name"):
                continue
            raise DataError(f"{path}:{number}: expected a colour and a name, such as 64 128 64 Animal; found {line!r}.")
        value = int(found["red"]) * 65536 + int(found["green"]) * 256 + int(found["blue"])
        if value in names:
            raise DataError(f"{path}:{number}: the colour of {names[value]!r} stands again for {found['name']!r}.")
        names[value] = found["name"]
    return names


VOID_NAMES = frozenset({"void", "null", "unlabelled", "unlabeled", "_background_", "background"})

LAYOUTS: dict[LayoutName, Layout] = {
    "ade20k": Layout(_ade20k_names, void=frozenset({0, 255})),
    "coco_stuff": Layout(_coco_stuff_names, void=frozenset({255})),
    "mapillary_v2": Layout(_mapillary_names, void_names=VOID_NAMES),
    "indices": Layout(_indexed_names, void=frozenset({255}), void_names=VOID_NAMES),
    "colours": Layout(_coloured_names, is_coloured=True, void_names=VOID_NAMES),
    "binary": Layout(_indexed_names, is_binary=True, void_names=VOID_NAMES),
}


def class_words(path: Path, layout: Layout, *, ignore: tuple[str, ...]) -> dict[int, str | None]:
    """Words for each value a label picture may have; None: left out.

    COCO-Stuff's names with a hyphen ("wall-brick", "sky-other") are left out, as published training code does.

    Raises:
        DataError: the names file is missing or malformed, or a name is unfit.
    """
    words: dict[int, str | None] = dict.fromkeys(layout.void)
    for value, raw in layout.names(path).items():
        if raw in ignore or str(raw).lower() in layout.void_names or (layout is LAYOUTS["coco_stuff"] and "-" in raw):
            words[value] = None
        else:
            try:
                words[value] = category_name(raw)
            except DataError as error:
                raise DataError(f"{path}: class {value}: {error}. Correct it in the file.") from None
    return words
