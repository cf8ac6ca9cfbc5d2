"""Strokes and polygons that a person drew on a mask, applied at the picture's full size.

Coordinates are (x, y) in pixels of the picture, from 0 at the left and upper edge to its width and height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageDraw
from pydantic import Field

from miras.dialogue import masks
from miras.dialogue.records import Frozen
from miras.errors import DataError

MAX_EDITS = 2000
MAX_POINTS = 5000  # of one stroke or polygon
MAX_COORDINATE = 100_000

Coordinate = Annotated[float, Field(ge=-MAX_COORDINATE, le=MAX_COORDINATE, allow_inf_nan=False)]


class Edit(Frozen):
    """One stroke or polygon."""

    tool: Literal["brush", "polygon"]
    adds: bool
    """Whether it sets pixels; else it clears them."""
    points: tuple[tuple[Coordinate, Coordinate], ...] = Field(min_length=1, max_length=MAX_POINTS)
    radius: float = Field(default=0.5, gt=0, le=MAX_COORDINATE, allow_inf_nan=False)
    """Of the brush, pixels."""


def edited(mask: np.ndarray, edits: Sequence[Edit]) -> np.ndarray:
    """The mask after all edits in order; boolean (H, W), a new array.

    Raises:
        DataError: a polygon has fewer than three corners.
    """
    found = mask.astype(bool, copy=True)
    for edit in edits:
        area = _polygon(edit, found.shape) if edit.tool == "polygon" else _stroke(edit, found.shape)
        found = found | area if edit.adds else found & ~area
    return found


def _polygon(edit: Edit, shape: tuple[int, ...]) -> np.ndarray:
    if len(edit.points) < 3:
        raise DataError(f"A polygon has {len(edit.points)} corners; at least 3 enclose an area.")
    flat = [value for point in edit.points for value in point]
    return masks.decode(masks.from_polygons([flat], height=shape[0], width=shape[1]))


def _stroke(edit: Edit, shape: tuple[int, ...]) -> np.ndarray:
    """All pixels whose centres are within the radius of the line, to a pixel."""
    canvas = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    centres = [(x - 0.5, y - 0.5) for x, y in edit.points]  # Pillow counts from the centre of the first pixel
    if len(centres) > 1:
        draw.line(centres, fill=1, width=max(1, round(2 * edit.radius)))
    for x, y in centres:
        draw.ellipse((x - edit.radius, y - edit.radius, x + edit.radius, y + edit.radius), fill=1)
    return np.asarray(canvas)
