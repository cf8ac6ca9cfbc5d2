"""Masks as the intervals that a run-length code states: checked, intersected, eroded without picture-sized arrays.

pycocotools trusts a code: a truncated one is read past its end, runs that do not fill the picture give wrong counts.
Here every code is checked first. All numbers are int64; the cost grows with the runs, not with the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miras.dialogue.records import Rle
from miras.errors import DataError

# COCO's text form of a run: characters from "0", five bits each from the lowest up, the sixth says that more follow.
FIRST_CHARACTER = 48
DATA_BITS = 5
DATA = 0b011111
MORE = 0b100000
SIGN = 0b010000
MAX_CHARACTERS = 8  # of one run: 40 bits, more than the pixels of any picture


@dataclass(frozen=True, eq=False)
class Runs:
    """The pixels of a mask, counted down the columns from the top left: intervals [start, end), ascending and apart."""

    height: int
    width: int
    starts: np.ndarray
    """int64 (n,)."""
    ends: np.ndarray
    """int64 (n,)."""

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return int((self.ends - self.starts).sum())

    @property
    def box_xyxy_px(self) -> tuple[int, int, int, int]:
        """Tight box (x0, y0, x1, y1), ends exclusive; all zero for an empty mask."""
        if not len(self.starts):
            return 0, 0, 0, 0
        last = self.ends - 1
        left, right = self.starts[0] // self.height, last[-1] // self.height
        if (self.starts // self.height < last // self.height).any():  # on to the next column: from bottom to top
            return int(left), 0, int(right) + 1, self.height
        top, bottom = (self.starts % self.height).min(), (last % self.height).max()
        return int(left), int(top), int(right) + 1, int(bottom) + 1


def empty_runs(size: tuple[int, int]) -> Runs:
    """No pixel of a picture of this (height, width)."""
    nothing = np.zeros(0, dtype=np.int64)
    return Runs(*size, nothing, nothing)


def check_rle(rle: Rle, *, size: tuple[int, int], where: str) -> None:
    """Raises a DataError where a code is damaged, or is of a picture of another (height, width)."""
    read_runs(rle, size=size, where=where)


def read_runs(rle: Rle, *, size: tuple[int, int], where: str) -> Runs:
    """The intervals of a code.

    Args:
        rle: the code.
        size: (height, width) of the picture.
        where: what the mask is, for the message.

    Raises:
        DataError: the code is of another size, is truncated, holds other characters, or its runs do not fill the
            picture exactly.
    """
    height, width = rle.size
    if rle.size != size:
        raise DataError(
            f"{where}: the mask is {height} x {width}, the picture {size[0]} x {size[1]} (height x width). "
            "Masks are compared at the picture's own size: write them in its pixels."
        )
    lengths = _run_lengths(rle, where)
    edges = np.cumsum(lengths)
    if not len(edges) or lengths.min() < 0 or edges[-1] != height * width:
        found = "a negative run" if len(edges) and lengths.min() < 0 else f"{edges[-1] if len(edges) else 0} pixels"
        raise _damaged(where, f"its runs hold {found}, expected the {height * width} pixels of {height} x {width}")
    starts, ends = edges[:-1:2], edges[1::2]
    if len(lengths) > 1 and not lengths[1:].all():
        starts, ends = _without_empty_runs(starts, ends)
    return Runs(height, width, starts, ends)


def _run_lengths(rle: Rle, where: str) -> np.ndarray:
    """int64 (n,): clear and set pixels in turn, the first clear."""
    values = np.frombuffer(rle.counts.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - FIRST_CHARACTER
    if not len(values):
        return values
    if values.min() < 0 or values.max() > (MORE | DATA):
        raise _damaged(where, "it holds characters that no run-length code has")
    is_last = values < MORE
    if not is_last[-1]:
        raise _damaged(where, "it stops in the middle of a number")
    last = np.flatnonzero(is_last)
    first = np.concatenate(([0], last[:-1] + 1))
    characters = last - first + 1
    if characters.max() > MAX_CHARACTERS:
        raise _damaged(where, f"a number has {characters.max()} characters, at most {MAX_CHARACTERS} make a run")
    shifts = DATA_BITS * (np.arange(len(values)) - np.repeat(first, characters))
    lengths = np.add.reduceat((values & DATA) << shifts, first)
    lengths -= np.where(values[last] & SIGN, 1 << (DATA_BITS * characters), 0)
    # From the fourth on, a number is the difference to the run before the last.
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def _damaged(where: str, what: str) -> DataError:
    return DataError(
        f"{where}: the run-length code is damaged: {what}. Write it with pycocotools' encode, whole and unchanged."
    )


def _without_empty_runs(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Other writers than pycocotools put runs of no pixel between others."""
    is_filled = starts < ends
    starts, ends = starts[is_filled], ends[is_filled]
    is_apart = starts[1:] != ends[:-1]
    return starts[np.concatenate(([True], is_apart))[: len(starts)]], ends[np.append(is_apart, True)[: len(ends)]]


def intersect(first: Runs, second: Runs) -> Runs:
    """The pixels in both masks."""
    low = np.searchsorted(second.ends, first.starts, side="right")
    high = np.searchsorted(second.starts, first.ends, side="left")
    partners = high - low
    of_first = np.repeat(np.arange(len(partners)), partners)
    before = np.repeat(np.cumsum(partners) - partners, partners)
    of_second = low[of_first] + np.arange(len(of_first)) - before
    return Runs(
        first.height,
        first.width,
        np.maximum(first.starts[of_first], second.starts[of_second]),
        np.minimum(first.ends[of_first], second.ends[of_second]),
    )


def complement(runs: Runs) -> Runs:
    """The pixels that are not in the mask."""
    starts = np.concatenate(([0], runs.ends))
    ends = np.append(runs.starts, runs.height * runs.width)
    is_filled = starts < ends
    return Runs(runs.height, runs.width, starts[is_filled], ends[is_filled])


def difference(first: Runs, second: Runs) -> Runs:
    """The pixels of the first mask that are not in the second."""
    return intersect(first, complement(second))


def erode(runs: Runs, radius_px: int) -> Runs:
    """The pixels whose whole square of 2 radius + 1 pixels is in the mask; nothing beyond the picture's edge is."""
    window = 2 * radius_px + 1
    found, columns = _shrink_columns(runs, radius_px), 1
    while columns < window:  # every pixel of `found` has `columns` columns of the mask from its own to the right
        step = min(columns, window - columns)
        found, columns = intersect(found, _moved(found, -step)), columns + step
    return _moved(found, radius_px)


def _shrink_columns(runs: Runs, radius_px: int) -> Runs:
    """Each piece of a column without its outer pixels at both ends."""
    first, last = runs.starts // runs.height, (runs.ends - 1) // runs.height
    pieces = last - first + 1
    of_run = np.repeat(np.arange(len(pieces)), pieces)
    column = first[of_run] + np.arange(len(of_run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.maximum(runs.starts[of_run], column * runs.height) + radius_px
    ends = np.minimum(runs.ends[of_run], (column + 1) * runs.height) - radius_px
    is_left = starts < ends
    return Runs(runs.height, runs.width, starts[is_left], ends[is_left])


def _moved(runs: Runs, columns: int) -> Runs:
    """Moved to the right; what leaves the picture keeps its number, for `intersect` to drop."""
    step = columns * runs.height
    return Runs(runs.height, runs.width, runs.starts + step, runs.ends + step)
