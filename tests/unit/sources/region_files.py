"""Small data sets in their true formats, for the tests of the readers with regions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from miras.dialogue import masks
from miras.dialogue.records import Region, Rejected
from miras.sources.limits import ReadLimits
from miras.sources.pictures import FilePicture

HEIGHT, WIDTH = 20, 30
LIMITS = ReadLimits(max_pictures=9, max_megapixels=1, ignore_categories=())


def ignoring(*names: str) -> ReadLimits:
    return ReadLimits(max_pictures=9, max_megapixels=1, ignore_categories=names)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A boolean mask (HEIGHT, WIDTH) of a rectangle, ends exclusive."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": masks.encode(mask).counts}


def save_picture(path: Path, *, shade: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (shade, 0, 0)).save(path)


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def split(items: Iterable[object]) -> tuple[list[FilePicture], list[Rejected]]:
    found = list(items)
    return (
        [item for item in found if isinstance(item, FilePicture)],
        [item for item in found if isinstance(item, Rejected)],
    )


def pixels(region: Region) -> np.ndarray:
    assert region.mask is not None
    return masks.decode(region.mask)


def categories(regions: Sequence[Region]) -> list[str]:
    return [region.category for region in regions]
