"""What the annotation formats have in common: JSON files, names, outlines, and the kinds of refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from miras.dialogue import masks
from miras.dialogue.records import TARGET_SLOT, Rejected, Rle
from miras.dialogue.rendering import MARKERS
from miras.errors import DataError
from miras.sources.pictures import printable

# A coordinate this many picture sides away is a fault; rasterising costs memory in proportion to it.
MAX_SIDES_AWAY = 100
MAX_NAME_CHARACTERS = 200  # assumed: a phrase of this length is a text, not a name


class RejectedPicture(Rejected):
    """A picture left out with all its annotations."""


class RejectedRegion(Rejected):
    """An annotation left out; its picture stays."""


class NotAnArea(Rejected):
    """A sound annotation that encloses no area (a point, a line): listed, but no fault of the source."""


def rejection(kind: type[Rejected], where: object, reason: object) -> Rejected:
    """A refusal of this kind; whatever is no valid Unicode is written out."""
    return kind(where=printable(where), reason=printable(reason))


def read_json(path: Path, *, encodings: Sequence[str] = ("utf-8-sig",)) -> Any:
    """The value in a JSON file; NaN and Infinity are let through, for the reader to name their record.

    Args:
        encodings: tried in this order.

    Raises:
        DataError: the file is missing, in none of the encodings, or not JSON.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise DataError(
            f"{printable(path)}: no such file. Name it in the source's settings (params.yaml: ingest.sources)."
        ) from None
    for encoding in encodings:
        try:
            text = content.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise DataError(f"{printable(path)}: not text in {' or '.join(encodings)}. Save it as UTF-8.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)}: not JSON, or cut off: {error}. Export it again.") from None


def category_name(raw: object) -> str:
    """The name of a category or label as words: underscores and line breaks become spaces.

    Raises:
        DataError: not text, empty, over-long, or holding one of the model's markers.
    """
    if not isinstance(raw, str):
        raise DataError(f"expected a name, found {raw!r}")
    name = " ".join(raw.replace("_", " ").split())
    if not name:
        raise DataError("the name is empty; give the object a name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise DataError(f"the name has {len(name)} characters; at most {MAX_NAME_CHARACTERS} make a name")
    if any(marker in name for marker in (*MARKERS, TARGET_SLOT)):
        raise DataError(f"the name {name!r} holds a marker of the model ({', '.join(MARKERS)}, {TARGET_SLOT})")
    if name != printable(name):
        raise DataError(f"the name {printable(name)!r} is not valid Unicode")
    return name


def outline_mask(polygons: Sequence[object], *, height: int, width: int) -> Rle:
    """The union of flat polygons [x0, y0, x1, y1, ...], pixels of the picture; parts outside are cut off.

    Raises:
        DataError: a polygon is no list of pairs of finite numbers, has fewer than three points, lies
            absurdly far outside; or all of them together cover no pixel.
    """
    if not polygons:
        raise DataError("no segmentation: a box or a name alone gives no mask; outline the object")
    checked = [_polygon(polygon, limit=MAX_SIDES_AWAY * max(height, width)) for polygon in polygons]
    return covering(masks.from_polygons(checked, height=height, width=width))


def covering(mask: Rle) -> Rle:
    """The mask itself.

    Raises:
        DataError: it covers no pixel.
    """
    if masks.area_px(mask) == 0:
        raise DataError("the outline covers no pixel of the picture")
    return mask


def _polygon(polygon: object, *, limit: float) -> list[float]:
    if not isinstance(polygon, list):
        raise DataError(f"expected a polygon (a list of numbers), found {type(polygon).__name__}")
    values = [number(value) for value in polygon]
    if len(values) % 2:
        raise DataError(f"a polygon has an odd number of coordinates ({len(values)}); x and y come in pairs")
    if len(values) < 6:
        raise DataError(f"a polygon has {len(values) // 2} points; at least 3 enclose an area")
    farthest = max(values, key=abs)
    if abs(farthest) > limit:
        raise DataError(f"a coordinate is {farthest:g}, far outside the picture")
    return values


def number(value: object) -> float:
    """A finite number.

    Raises:
        DataError: text, a truth value, NaN, infinity or anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"a coordinate is {value!r}; expected a number")
    try:
        as_float = float(value)
    except OverflowError:
        as_float = math.inf
    if not math.isfinite(as_float):
        raise DataError(f"a coordinate is {as_float}; expected a finite number")
    return as_float
