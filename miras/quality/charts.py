"""Drawings for the Data Docs, all inline: bars of an SVG histogram and small pictures with their masks."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageFilter

from miras.dialogue.masks import FINE_BELOW_PX, MEDIUM_BELOW_PX, decode, size_class
from miras.dialogue.records import Region
from miras.quality.mask_features import fault

DRAWING_SIDE_PX = 320
_OUTLINE_RGB = (219, 39, 119)
_GROUND_RGB = (148, 163, 184)  # of a mask without its picture
_PALE = 0.6


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in a chart that is 1 wide and 1 high."""

    left: float
    width: float
    height: float
    size_class: str
    label: str


@dataclass(frozen=True)
class Histogram:
    """Areas on the 1024 canvas, logarithmic axis."""

    bars: list[Bar]
    marks: list[tuple[float, str]]
    """Vertical lines: place in [0, 1] and what is there."""
    ticks: list[tuple[float, str]]
    """Places on the axis with their areas in pixels."""


_BINS_PER_OCTAVE = 2


def area_histogram(areas_px: pd.Series, *, smallest_px: int) -> Histogram:
    """Counts per half octave of area, from 128 px to the whole canvas (2**20 px)."""
    first, last = 7, 20
    bins = (last - first) * _BINS_PER_OCTAVE
    exponents = np.log2(areas_px.to_numpy(dtype=np.float64)).clip(first, last)
    counts, edges = np.histogram(exponents, bins=bins, range=(first, last))
    tallest = max(1, int(counts.max()))
    bars = [
        Bar(
            left=index / bins,
            width=1 / bins,
            height=count / tallest,
            size_class=size_class(2 ** ((low + high) / 2)),
            label=f"{count} targets with {2**low:,.0f} to {2**high:,.0f} px",
        )
        for index, (count, low, high) in enumerate(zip(counts.tolist(), edges, edges[1:], strict=False))
    ]

    def place(area: float) -> float:
        return (math.log2(area) - first) / (last - first)

    limits = {"minimum": float(smallest_px), "medium": FINE_BELOW_PX, "coarse": MEDIUM_BELOW_PX}
    marks = [(place(area), name) for name, area in limits.items() if 2**first <= area <= 2**last]
    ticks = [(place(area), f"{area:,}") for area in (300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000)]
    return Histogram(bars=bars, marks=marks, ticks=ticks)


@dataclass(frozen=True)
class Drawing:
    """A picture with masks on it, small."""

    title: str
    address: str
    """A `data:` address."""


def draw(regions: Sequence[Region], *, picture_file: Path | None) -> Drawing | None:
    """The picture with the regions' masks, 320 px long; None when there is nothing to draw.

    Masks alone when the picture is not there or has another size than they; masks that cannot be read are
    left out. All masks that are drawn have one size.
    """
    masks = [decode(region.mask) for region in regions if region.mask and not fault(region.mask)]
    marked = np.logical_or.reduce([mask for mask in masks if mask.shape == masks[0].shape]) if masks else None
    ground = _opened(picture_file)
    if ground is None or (marked is not None and marked.shape != (ground.height, ground.width)):
        if marked is None or not marked.size:
            return None
        ground = Image.new("RGB", (marked.shape[1], marked.shape[0]), _GROUND_RGB)
    title = "; ".join(region.phrase for region in regions if region.phrase)
    scale = DRAWING_SIDE_PX / max(ground.size)
    size = (max(1, round(ground.width * scale)), max(1, round(ground.height * scale)))
    small = ground.resize(size, Image.Resampling.BOX)
    drawn = small if marked is None else _marked(small, marked)
    return Drawing(title=title, address=_data_address(drawn))


def _opened(picture_file: Path | None) -> Image.Image | None:
    if picture_file is None:
        return None
    try:
        with Image.open(picture_file) as opened:
            return opened.convert("RGB")
    except OSError:  # the check is of dialogues and masks: a page without a picture still tells of them
        return None


def _marked(ground: Image.Image, marked: np.ndarray) -> Image.Image:
    """The ground, pale and grey outside the marked pixels, with a line around them."""
    inside = Image.fromarray(marked.astype(np.uint8) * 255).resize(ground.size, Image.Resampling.BOX)
    inside = inside.point(lambda share: 255 if share > 127 else 0)
    grey = ground.convert("L").convert("RGB")
    pale = Image.blend(grey, Image.new("RGB", ground.size, "white"), _PALE)
    drawn = Image.composite(ground, pale, inside)
    outline = ImageChops.difference(inside.filter(ImageFilter.MaxFilter(5)), inside)
    return Image.composite(Image.new("RGB", ground.size, _OUTLINE_RGB), drawn, outline)


def _data_address(picture: Image.Image) -> str:
    stored = io.BytesIO()
    picture.save(stored, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stored.getvalue()).decode('ascii')}"
