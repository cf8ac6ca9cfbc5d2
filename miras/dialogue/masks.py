"""Masks: boolean arrays and COCO run-length codes, polygons and sizes. Row-major (h, w), pixels of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from miras.dialogue.records import Rle

# Size classes of the PRIST paper, section 3, in pixels of a canvas of 1024 x 1024.
CANVAS_PX = 1024
FINE_BELOW_PX = 51.2**2
MEDIUM_BELOW_PX = 153.6**2
SIZE_CLASSES = ("fine", "medium", "coarse")


def encode(mask: np.ndarray) -> Rle:
    """Run-length code of a boolean mask (h, w)."""
    coded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return Rle(size=(int(mask.shape[0]), int(mask.shape[1])), counts=coded["counts"].decode("ascii"))


def decode(rle: Rle) -> np.ndarray:
    """Boolean mask (h, w) of a run-length code."""
    return coco_mask.decode(_coco(rle)).astype(bool)


def area_px(rle: Rle) -> int:
    """Number of pixels set."""
    return int(coco_mask.area(_coco(rle)))


def box_xyxy_px(rle: Rle) -> tuple[int, int, int, int]:
    """Tight box (x0, y0, x1, y1), ends exclusive; all zero for an empty mask."""
    x, y, width, height = (int(value) for value in coco_mask.toBbox(_coco(rle)))
    return x, y, x + width, y + height


def union(codes: Sequence[Rle]) -> Rle:
    """The union of masks of one picture (at least one)."""
    merged = coco_mask.merge([_coco(rle) for rle in codes])
    return Rle(size=codes[0].size, counts=merged["counts"].decode("ascii"))


def from_polygons(polygons: Sequence[Sequence[float]], *, height: int, width: int) -> Rle:
    """Mask of flat polygons [x0, y0, x1, y1, ...] in pixels, their union; parts outside are cut off."""
    codes = coco_mask.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width)
    merged = coco_mask.merge(codes)
    return Rle(size=(height, width), counts=merged["counts"].decode("ascii"))


def canvas_area_px(rle: Rle) -> float:
    """Area the mask would have if the picture's longer side were scaled to 1024 px (PRIST, section 3)."""
    return area_px(rle) * (CANVAS_PX / max(rle.size)) ** 2


def size_class(canvas_px: float) -> str:
    """fine, medium or coarse, by the area on the 1024 canvas."""
    if canvas_px < FINE_BELOW_PX:
        return "fine"
    return "medium" if canvas_px < MEDIUM_BELOW_PX else "coarse"


def _coco(rle: Rle) -> dict[str, object]:
    return {"size": list(rle.size), "counts": rle.counts.encode("ascii")}
