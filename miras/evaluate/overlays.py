"""A picture with a mask on it: translucent colour inside, a clear contour around."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from miras.dialogue.masks import decode, union
from miras.dialogue.records import Rle

TRUTH_RGB = (16, 148, 120)
PREDICTION_RGB = (226, 85, 38)
_OPACITY = 0.5
_CONTOUR_PX = 5  # odd: side of the filters that widen the contour


def overlay(picture: Image.Image, codes: Sequence[Rle], *, colour: tuple[int, int, int], side_px: int) -> Image.Image:
    """The picture, its longer side scaled to `side_px`, with the union of the masks drawn on it.

    Masks are smoothed for display only. No mask: the picture alone.
    """
    scaled = scale_to(picture, side_px=side_px)
    if not codes:
        return scaled
    drawn = Image.fromarray(decode(union(codes)).astype(np.uint8) * 255)
    drawn = drawn.resize(scaled.size, Image.Resampling.BICUBIC).point(lambda value: 255 if value > 127 else 0)
    grown, shrunk = drawn.filter(ImageFilter.MaxFilter(_CONTOUR_PX)), drawn.filter(ImageFilter.MinFilter(3))
    inside = np.asarray(drawn, dtype=bool)
    contour = np.asarray(grown, dtype=bool) & ~np.asarray(shrunk, dtype=bool)
    pixels = np.asarray(scaled, dtype=np.float32)
    ink = np.asarray(colour, dtype=np.float32)
    pixels = np.where(inside[..., None], (1 - _OPACITY) * pixels + _OPACITY * ink, pixels * 0.82)
    pixels[np.asarray(drawn.filter(ImageFilter.MaxFilter(_CONTOUR_PX + 4)), dtype=bool) & ~inside] = 255
    pixels[contour] = ink
    return Image.fromarray(pixels.round().astype(np.uint8))


def scale_to(picture: Image.Image, *, side_px: int) -> Image.Image:
    """The picture with its longer side at `side_px`; small ones are enlarged."""
    factor = side_px / max(picture.size)
    size = tuple(max(1, round(length * factor)) for length in picture.size)
    return picture.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS)
